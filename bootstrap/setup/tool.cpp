// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/tool.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <initializer_list>
#include <optional>
#include <sstream>

#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/output_file.h"
#include "src/base/text.h"
#include "src/runtime/child.h"
#include "src/runtime/event_loop.h"

namespace nitro::setup {
namespace {

constexpr std::initializer_list<int> kEndingSignals = {SIGTERM, SIGINT, SIGHUP};
constexpr std::size_t kMostOutputBytes = 64 << 10;
constexpr std::size_t kShownLines = 20;

std::optional<std::string> path_of(const std::string& name) {
  std::istringstream folders(environment_variable("PATH").value_or("") + ":/usr/sbin:/sbin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string path = folder + "/" + name;
    if (!folder.empty() && ::access(path.c_str(), X_OK) == 0) return path;
  }
  return std::nullopt;
}

/// The end of what was written to the file.
Result<std::string> end_of(const Fd& file) {
  NITRO_TRY(const std::uint64_t size, file_size(file.get()));
  std::string text(static_cast<std::size_t>(std::min<std::uint64_t>(size, kMostOutputBytes)), '\0');
  NITRO_CHECK(pread_exact(file.get(), std::as_writable_bytes(std::span(text)), size - text.size()));
  return text;
}

/// The last `count` lines that are not empty, safe for a terminal.
std::string last_lines(const std::string& output, std::size_t count) {
  std::vector<std::string> lines;
  std::istringstream stream(output);
  for (std::string line; std::getline(stream, line);) {
    if (!trimmed(line).empty()) lines.push_back(printable(trimmed(line)));
  }
  const std::size_t first = lines.size() - std::min(lines.size(), count);
  return fmt::format("{}", fmt::join(lines.begin() + static_cast<std::ptrdiff_t>(first), lines.end(), "\n"));
}

/// Its own session, so that keys at our terminal do not reach it.
ChildOptions options_of(std::vector<std::string> arguments, int output) {
  const std::string& name = arguments.at(0);
  if (name.find('/') == std::string::npos) arguments[0] = path_of(name).value_or(name);
  return {.arguments = std::move(arguments),
          .stdout_fd = output,
          .stderr_fd = output,
          .inherited_fds = {},
          // What they print is read, or reported.
          .environment = {"LC_ALL=C.UTF-8"},
          .new_session = true};
}

}  // namespace

bool has_tool(const std::string& name) {
  return path_of(name).has_value();
}

Result<std::string> run_tool(std::vector<std::string> arguments) {
  const std::string line = fmt::format("{}", fmt::join(arguments, " "));
  NITRO_TRY(const Fd output, make_scratch_file());
  NITRO_TRY(Child child, Child::spawn(options_of(std::move(arguments), output.get())));
  NITRO_TRY(const ExitStatus status, child.wait());
  NITRO_TRY(std::string text, end_of(output));
  if (status.success()) return text;
  const std::string last = last_lines(text, 1);
  return fail(ErrorCode::kProcessSpawn,
              fmt::format("{} {}{}{}", line, status.to_string(), last.empty() ? "" : ": ", last));
}

Result<int> run_long_tool(std::vector<std::string> arguments, bool shown, std::initializer_list<int> good) {
  const std::string line = fmt::format("{}", fmt::join(arguments, " "));
  NITRO_CHECK(block_signals(kEndingSignals));
  NITRO_TRY(const auto loop, EventLoop::create());
  NITRO_TRY(const Fd output, make_scratch_file());
  NITRO_TRY(Child child, Child::spawn(options_of(std::move(arguments), shown ? STDERR_FILENO : output.get())));
  int received = 0;
  NITRO_TRY(const auto signals, loop->watch_signals(kEndingSignals, [&](int signal) {
    // It leads a process group, as it leads a session. It is not reaped yet, so the number is its own.
    ::kill(-child.pid(), received == 0 ? SIGTERM : SIGKILL);
    received = signal;
  }));
  NITRO_TRY(const auto end, loop->watch_fd(child.pidfd(), EPOLLIN, [&](std::uint32_t) { loop->stop(); }));
  NITRO_CHECK(loop->run());
  // What it has started and not waited for.
  if (received != 0) ::kill(-child.pid(), SIGKILL);
  NITRO_TRY(const ExitStatus status, child.wait());
  if (received != 0) {
    return fail(ErrorCode::kProcessSpawn, fmt::format("{} was ended, as this program received signal {} ({})", line,
                                                      received, ::strsignal(received)));
  }
  if (status.signal == 0 && std::find(good.begin(), good.end(), status.code) != good.end()) return status.code;
  NITRO_TRY(const std::string text, end_of(output));
  const std::string last = last_lines(text, kShownLines);
  return fail(ErrorCode::kProcessSpawn,
              fmt::format("{} {}{}{}", line, status.to_string(), last.empty() ? "" : "; it printed:\n", last));
}

}  // namespace nitro::setup
