// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace nitro::image {

/// The messages of an engine that pulls or builds an image: one line of JSON for each step. The HTTP status of such an
/// answer is a success even if the step fails; a line with "error" then says so, and it may be truncated.
class EngineReport {
 public:
  /// Called with messages of interest to a person, one line at a time.
  using Listener = std::function<void(std::string_view line)>;

  explicit EngineReport(const Listener& listener) : listener_(listener) {}

  void take(std::span<const std::byte> bytes);
  /// Call this at the end of the input.
  void end();

  /// Returns the last error, without trailing line breaks; empty if there was none.
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Returns the last lines that the commands of a Dockerfile printed, safe for a terminal: up to kKeptLines of them.
  [[nodiscard]] const std::deque<std::string>& printed() const { return printed_; }

  /// The output of a failed command says more than its status.
  static constexpr std::size_t kKeptLines = 20;
  static constexpr std::size_t kMaxKeptLineBytes = 500;
  /// No step of an engine has longer lines; the rest of such a line is skipped.
  static constexpr std::size_t kMaxLineBytes = std::size_t{8} << 20;

 private:
  void take_line();

  const Listener& listener_;
  std::string line_;
  std::string error_;
  std::deque<std::string> printed_;
};

}  // namespace nitro::image
