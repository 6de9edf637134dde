// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace nitro::cli {

/// Progress of a command for a person at a terminal: one line on stderr that is overwritten, and cleared at the end.
/// Nothing is shown if stderr is not a terminal.
class Progress {
 public:
  Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// Shows `text` until the next call; control characters in it are not printed.
  void show(std::string_view text);
  /// Counts the bytes of a long step and shows them, a few times a second.
  void count(std::string_view step, std::uint64_t bytes);

 private:
  void clear();

  bool visible_;
  std::size_t shown_ = 0;  // columns in use
  std::string step_;
  std::uint64_t total_ = 0;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace nitro::cli
