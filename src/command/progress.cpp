// SPDX-License-Identifier: Apache-2.0
#include "src/command/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace nitro::cli {

namespace {
constexpr auto kRefresh = std::chrono::milliseconds(150);

std::size_t columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) return size.ws_col;
  return 80;
}
}  // namespace

Progress::Progress() : visible_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  clear();
}

void Progress::clear() {
  if (shown_ == 0) return;
  std::fprintf(stderr, "\r%*s\r", static_cast<int>(shown_), "");
  std::fflush(stderr);
  shown_ = 0;
}

void Progress::show(std::string_view text) {
  if (!visible_) return;
  std::string line(text.substr(0, columns() - 1));
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  clear();
  std::fprintf(stderr, "%s", line.c_str());
  std::fflush(stderr);
  shown_ = line.size();
}

void Progress::count(std::string_view step, std::uint64_t bytes) {
  if (!visible_) return;
  if (step_ != step) {
    step_ = step;
    total_ = 0;
  }
  total_ += bytes;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < kRefresh) return;
  last_ = now;
  show(step_ + " " + std::to_string(total_ >> 20) + " MiB");
}

}  // namespace nitro::cli
