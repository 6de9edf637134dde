// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/change.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <initializer_list>

#include "enclave_proc/client/client.h"
#include "src/base/bytes.h"
#include "src/runtime/directories.h"
#include "src/runtime/event_loop.h"

namespace nitro::allocator {
namespace {

constexpr std::initializer_list<int> kEndingSignals = {SIGTERM, SIGINT, SIGHUP};

/// As nohup(1) makes it with SIGHUP. A blocked signal becomes pending all the same.
bool is_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

Result<Record> begin_change(const std::string& root) {
  if (!root.empty() && !is_folder(root)) {
    return fail(ErrorCode::kFileOperation, fmt::format("{}, given with --root, is not a folder", quote(root)));
  }
  auto record = Record::open(root + "/run/nitro-enclaves-allocator");
  if (!record) return record;
  NITRO_CHECK(block_signals(kEndingSignals));
  return record;
}

bool is_asked_to_end() {
  sigset_t pending;
  ::sigpending(&pending);
  return std::any_of(kEndingSignals.begin(), kEndingSignals.end(),
                     [&pending](int signal) { return ::sigismember(&pending, signal) == 1 && !is_ignored(signal); });
}

std::vector<std::string> running_enclaves() {
  const auto folders = proc::find_sockets_folders();
  if (!folders) return {};
  auto names = proc::enclave_names(folders->trusted);
  return names ? std::move(names->texts) : std::vector<std::string>{};
}

std::string explained(const Error& error) {
  if (error.system_errno() != EPERM) return error.message();
  const auto names = running_enclaves();
  return names.empty() ? error.message() : fmt::format("{}; running: {}", error.message(), fmt::join(names, ", "));
}

}  // namespace nitro::allocator
