// SPDX-License-Identifier: Apache-2.0
#include "src/cli/console.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <iostream>

#include "enclave_proc/client/client.h"
#include "enclave_proc/description.h"
#include "enclave_proc/machine/enclave_id.h"
#include "src/base/bytes.h"
#include "src/cli/commands.h"
#include "src/cli/enclave_output.h"
#include "src/runtime/unix_socket.h"
#include "src/runtime/vsock_socket.h"

namespace nitro::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kConnectTimeout(20);
/// 30 years; any longer limit makes no difference.
constexpr std::uint64_t kLongestLimitSeconds = 1'000'000'000;

/// The hypervisor serves the console of an enclave in debug mode over vsock, at CID 0.
Result<Fd> connect_to_hypervisor_console(std::uint64_t enclave_cid) {
  Fd socket = vsock_socket();
  if (!socket) return fail_errno(ErrorCode::kSocket, "creating a vsock socket");
  const timeval limit{.tv_sec = kConnectTimeout.count(), .tv_usec = 0};
  if (::setsockopt(socket.get(), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit, sizeof limit) != 0) {
    return fail_errno(ErrorCode::kSocketConnectTimeout, "setting the time limit of the connection to the console");
  }
  const auto port = static_cast<std::uint32_t>(enclave_cid) + proc::kConsolePortOffset;
  if (connect_to(socket, vsock_address(VMADDR_CID_HYPERVISOR, port)) != 0) {
    return fail_errno(ErrorCode::kConsoleConnection,
                      fmt::format("connecting to the console of the enclave with CID {}", enclave_cid));
  }
  return socket;
}

Result<Fd> connect_to_local_console(const std::string& path) {
  auto connected = connect_unix(path);
  if (!connected) return Failure(std::move(connected).error().as(ErrorCode::kConsoleConnection));
  return connected;
}

/// A local enclave serves its console in its folder.
std::optional<std::string> local_console(const std::string& enclave_id,
                                         const std::vector<proc::SocketsFolder>& folders) {
  for (const proc::SocketsFolder& folder : folders) {
    std::string path = folder.path_of(proc::local_folder_name(enclave_id) + "/console");
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) return path;
  }
  return std::nullopt;
}

struct Options {
  std::string enclave_id;
  std::optional<std::string> enclave_name;
  std::optional<std::string> disconnect_timeout;
};

/// Limits have 64 bits, but the clock counts nanoseconds and cannot add all of them. 0 means no limit, as in the
/// reference, where it stops the timer.
Result<std::optional<std::chrono::seconds>> parse_limit(const std::optional<std::string>& text) {
  if (!text) return std::optional<std::chrono::seconds>();
  std::uint64_t seconds = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  if (error != std::errc() || end != text->data() + text->size()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--disconnect-timeout {} is not a number of seconds", quote(*text)));
  }
  if (seconds == 0) return std::optional<std::chrono::seconds>();
  return std::optional(std::chrono::seconds(std::min(seconds, kLongestLimitSeconds)));
}

Result<void> console(const Options& options) {
  NITRO_TRY(const auto folders, trusted_folders());
  std::string id = options.enclave_id;
  if (options.enclave_name) {
    NITRO_TRY(id, proc::id_of(*options.enclave_name, folders));
  }
  NITRO_TRY(const auto limit, parse_limit(options.disconnect_timeout));
  NITRO_TRY(const Fd connected, connect_to_console(id, folders));
  return show_console(connected, limit);
}

}  // namespace

Result<Fd> connect_to_console(const std::string& enclave_id, const std::vector<proc::SocketsFolder>& folders) {
  NITRO_TRY(auto for_cid, proc::connect_to(enclave_id, folders));
  NITRO_TRY(const std::uint64_t cid, proc::ask_number(std::move(for_cid), proc::Command::kGetEnclaveCid));
  NITRO_TRY(auto for_flags, proc::connect_to(enclave_id, folders));
  NITRO_TRY(const std::uint64_t flags, proc::ask_number(std::move(for_flags), proc::Command::kGetEnclaveFlags));
  if ((flags & proc::kDebugModeFlag) == 0) {
    return fail(ErrorCode::kConsoleConnection, "the enclave has no console, as it does not run in debug mode");
  }
  // On stdout, like the reference: scripts of its users treat any output on stderr as a failure.
  std::cout << "Connecting to the console for enclave " << cid << "...\n" << std::flush;
  const auto path = local_console(enclave_id, folders);
  auto connected = path ? connect_to_local_console(*path) : connect_to_hypervisor_console(cid);
  if (!connected) return fail_within("reaching the console", std::move(connected).error());
  // Flushed before the console's output, which bypasses the stream.
  std::cout << "Successfully connected to the console.\n" << std::flush;
  return connected;
}

Result<void> show_console(const Fd& console, std::optional<std::chrono::seconds> limit) {
  const auto end = limit ? std::optional(Clock::now() + *limit) : std::nullopt;
  std::array<std::byte, 65536> buffer;
  while (true) {
    int wait_ms = -1;
    if (end) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*end - Clock::now()).count();
      if (left <= 0) return {};
      wait_ms = static_cast<int>(std::min<std::int64_t>(left, 3'600'000));
    }
    pollfd waiting{.fd = console.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waiting, 1, wait_ms);
    if (ready < 0 && errno != EINTR) return fail_errno(ErrorCode::kConsoleRead, "waiting for the console");
    if (ready <= 0) continue;
    const ssize_t count = ::read(console.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    // When the enclave ends the connection does too; how it does so makes no difference.
    if (count == 0 || (count < 0 && errno == ECONNRESET)) return {};
    if (count < 0) return fail_errno(ErrorCode::kConsoleRead, "reading the console");
    auto written = write_all(STDOUT_FILENO, std::span(buffer).first(static_cast<std::size_t>(count)));
    // The reader of our output has gone away (`| head`).
    if (!written && written.error().system_errno() == EPIPE) return {};
    if (!written)
      return fail_within("printing the console", std::move(written).error().as(ErrorCode::kConsoleWriteOutput));
  }
}

void add_console(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("console", "Shows the console of an enclave in debug mode");
  auto options = std::make_shared<Options>();
  auto* which = command->add_option_group("which enclave");
  which->add_option("--enclave-id", options->enclave_id, "The enclave with this ID");
  which->add_option("--enclave-name", options->enclave_name, "The enclave with this name");
  which->require_option(1);
  command->add_option("--disconnect-timeout", options->disconnect_timeout, "Stop after this many seconds; 0: never");
  command->callback([&chosen, options] {
    chosen = {"Enclave Console", [options](Context&) { return console(*options); }};
  });
}

}  // namespace nitro::cli
