// SPDX-License-Identifier: Apache-2.0
#include "src/cli/enclave_start.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <iostream>

#include "src/base/bytes.h"
#include "src/base/text.h"
#include "src/base/utf8.h"
#include "src/cli/enclave_output.h"
#include "src/runtime/event_loop.h"

namespace nitro::cli {
namespace {

/// Signals that end a command; during a start they undo it.
constexpr std::initializer_list<int> kEndingSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

/// Makes the name unique by appending a number, and takes it. An enclave holds the lock on its name until it can be
/// asked for it, so the other enclaves are asked after the lock is taken.
Result<proc::FolderLock> take_unique_name(std::string& name, const proc::SocketsFolder& folder,
                                          const std::vector<proc::SocketsFolder>& folders) {
  const std::string wanted = name;
  proc::Texts others;
  const auto is_taken = [&others, &name] {
    return std::find(others.texts.begin(), others.texts.end(), name) != others.texts.end();
  };
  for (int number = 0;; ++number) {
    name = number == 0 ? wanted : fmt::format("{}_{}", wanted, number);
    if (is_taken()) continue;
    NITRO_TRY(proc::FolderLock held, proc::hold_name(folder, name));
    if (!held) continue;
    NITRO_TRY(others, proc::enclave_names(folders));
    if (is_taken()) continue;
    for (const std::string& socket : others.unreadable) name_unreadable(socket);
    if (number > 0)
      std::cerr << fmt::format("The name {} is taken; this enclave is called {}.\n", quote(wanted), quote(name));
    return held;
  }
}

}  // namespace

Result<proc::StartedProcess> start_process(proc::RunRequest& request, const proc::SocketsFolder& folder,
                                           const std::vector<proc::SocketsFolder>& folders,
                                           const std::string& logs_folder) {
  // From here on a signal would leave the lock file behind; follow_start() handles pending ones.
  NITRO_CHECK(block_signals(kEndingSignals));
  NITRO_TRY(proc::FolderLock name, take_unique_name(request.enclave_name, folder, folders));
  return proc::start_enclave_process(request, folder, std::move(name), logs_folder);
}

Result<proc::Answer> follow_start(proc::StartedProcess& process) {
  NITRO_TRY(const auto loop, EventLoop::create());
  const int socket = process.socket();
  NITRO_CHECK(set_nonblocking(socket, true));
  proc::Answer answer;
  proc::AnswerReader reader(answer, false);
  std::size_t shown = 0;
  int ended_by = 0;
  NITRO_TRY(const auto signals, loop->watch_signals(kEndingSignals, [&](int signal) {
    ended_by = signal;
    ::shutdown(socket, SHUT_WR);
  }));
  NITRO_TRY(const auto watch, loop->watch_fd(socket, EPOLLIN, [&](std::uint32_t) {
    std::array<std::byte, 65536> buffer;
    const ssize_t count = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    answer.readable = count <= 0 || reader.take(std::span(buffer).first(static_cast<std::size_t>(count)));
    std::cerr << printable_lines(std::string_view(answer.standard_error).substr(shown)) << std::flush;
    shown = answer.standard_error.size();
    if (count <= 0 || !answer.readable || answer.status == 0) loop->stop();
  }));
  NITRO_CHECK(loop->run());
  if (ended_by != 0) {
    process.end();
    answer.status.reset();
    ::kill(::getpid(), ended_by);
  }
  answer.standard_error.clear();
  answer.complete = answer.status == 0;
  NITRO_CHECK(unblock_signals(kEndingSignals));
  return answer;
}

Failure not_started(const proc::Answer& answer, proc::StartedProcess& process) {
  const auto end = process.end();
  if (answer.status)
    return fail(ErrorCode::kEnclaveProcessConnection, "the enclave was not started, for the reason given above");
  return fail(ErrorCode::kEnclaveProcessConnection,
              fmt::format("the enclave was not started: its process {} without saying why",
                          end ? end->to_string() : "has ended"));
}

}  // namespace nitro::cli
