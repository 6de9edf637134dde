// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace nitro::image {

/// What an engine says while it pulls or builds an image: a line of JSON for each step. The status of such an answer is
/// a success even when the step fails; a line with "error" then says so, and it may be cut off before its line's end.
class EngineReport {
 public:
  /// Called with what is of interest to a person, a line at a time.
  using Listener = std::function<void(std::string_view line)>;

  explicit EngineReport(const Listener& listener) : listener_(listener) {}

  void take(std::span<const std::byte> bytes);
  /// To be called when nothing more comes.
  void end();

  /// The last error, without line breaks at its end; empty: there was none.
  [[nodiscard]] const std::string& error() const { return error_; }
  /// What the commands of a Dockerfile printed last, fit for a terminal: up to kKeptLines of them.
  [[nodiscard]] const std::deque<std::string>& printed() const { return printed_; }

  /// What a command printed tells more than its status.
  static constexpr std::size_t kKeptLines = 20;
  static constexpr std::size_t kMaxKeptLineBytes = 500;
  /// What is longer is no step of an engine's; the rest of the line is passed over.
  static constexpr std::size_t kMaxLineBytes = std::size_t{8} << 20;

 private:
  void take_line();

  const Listener& listener_;
  std::string line_;
  std::string error_;
  std::deque<std::string> printed_;
};

}  // namespace nitro::image
