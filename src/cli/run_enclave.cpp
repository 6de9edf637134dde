// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <iostream>

#include "enclave_proc/claim.h"
#include "enclave_proc/client.h"
#include "enclave_proc/process.h"
#include "nitro/bytes.h"
#include "nitro/directories.h"
#include "nitro/event_loop.h"
#include "nitro/text.h"
#include "src/cli/command.h"
#include "src/cli/console.h"
#include "src/cli/enclave_output.h"
#include "src/cli/run_settings.h"

namespace nitro::cli {
namespace {

/// Names go into file names of other tools, scripts and messages.
constexpr std::size_t kMaxNameBytes = 255;

Result<void> check_name(const std::string& name) {
  const bool printable =
      std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
  if (name.empty() || name.size() > kMaxNameBytes || name == "." || name == ".." || !printable) {
    return fail(ErrorCode::kEnclaveNaming,
                fmt::format("{} cannot be the name of an enclave", quote(name.substr(0, 300))));
  }
  return {};
}

/// Makes the name one that no other enclave has, by a number behind it, and takes it.
Result<Fd> take_unique_name(std::string& name) {
  NITRO_TRY(const auto names, proc::enclave_names(sockets_folders()));
  const std::string wanted = name;
  for (int number = 0;; ++number) {
    name = number == 0 ? wanted : fmt::format("{}_{}", wanted, number);
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    NITRO_TRY(Fd claim, proc::claim("name", name));
    if (!claim) continue;
    if (number > 0)
      std::cerr << fmt::format("The name {} is taken; this enclave is called {}.\n", quote(wanted), quote(name));
    return claim;
  }
}

/// Follows the start of the enclave: messages for people are shown at once. A signal undoes the start; this process
/// then ends by it, when nothing is left.
Result<proc::Answer> follow_start(proc::StartedProcess process) {
  NITRO_CHECK(block_signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT}));
  NITRO_TRY(const auto loop, EventLoop::create());
  const int socket = process.socket.get();
  NITRO_CHECK(set_nonblocking(socket, true));
  proc::Answer answer;
  proc::MessageReader reader(proc::kMaxReplyBytes);
  int ended_by = 0;
  NITRO_TRY(const auto signals, loop->watch_signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT}, [&](int signal) {
    ended_by = signal;
    ::shutdown(socket, SHUT_WR);
  }));
  NITRO_TRY(const auto watch, loop->watch_fd(socket, EPOLLIN, [&](std::uint32_t) {
    std::array<std::byte, 65536> buffer;
    const ssize_t count = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
      answer.complete = reader.empty();
      return loop->stop();
    }
    reader.append(std::span(buffer).first(static_cast<std::size_t>(count)));
    while (true) {
      auto message = reader.next_message();
      if (!message) return loop->stop();
      if (!message->has_value()) return;
      const auto reply = proc::decode_reply(**message);
      if (!reply) return loop->stop();
      if (const auto* out = std::get_if<proc::StdOutMessage>(&*reply)) answer.standard_output += out->text;
      if (const auto* err = std::get_if<proc::StdErrMessage>(&*reply))
        std::cerr << printable_lines(err->text) << std::flush;
      if (const auto* status = std::get_if<proc::StatusReply>(&*reply)) answer.status = status->status;
    }
  }));
  NITRO_CHECK(loop->run());
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::sigaddset(&set, signal);
  if (ended_by != 0) ::kill(::getpid(), ended_by);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  return answer;
}

Result<void> run_enclave(const RunOptions& options, Context& context) {
  NITRO_TRY(auto settings, read_settings(options));
  proc::RunRequest& request = settings.request;
  NITRO_CHECK(check_name(request.enclave_name));
  if (request.backend == proc::Backend::kLocal) {
    if (request.hugepage_size) {
      return fail(ErrorCode::kConflictingArgument,
                  "--hugepage-size is for enclaves of the device; local enclaves do not take huge pages");
    }
    std::cerr << "Local enclave: QEMU runs it on this machine, and it is not isolated from its host.\n";
  }
  NITRO_TRY(Fd claim, take_unique_name(request.enclave_name));
  NITRO_TRY(auto process, proc::start_enclave_process(request, std::move(claim), context.logs_folder));
  SPDLOG_LOGGER_INFO(&*context.log, "started the enclave process for {}", quote(request.eif_path));
  NITRO_TRY(const auto answer, follow_start(std::move(process)));
  if (answer.standard_output.empty()) {
    return fail(ErrorCode::kEnclaveProcessConnection, "the enclave was not started, for the reason given above");
  }
  NITRO_TRY(const auto objects, print_answers({answer}, Shape::kObjects, false));
  if (settings.attach_console) return show_console(objects.front().at("EnclaveID").get<std::string>(), std::nullopt);
  return {};
}

}  // namespace

void add_run_enclave(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("run-enclave", "Runs an enclave image");
  auto options = std::make_shared<RunOptions>();
  auto* eif_path = command->add_option("--eif-path", options->eif_path, "The enclave image file to run");
  auto* memory = command->add_option(
      "--memory", options->memory,
      "Size of the enclave's memory in MiB, or with a unit: 512M, 2G, 1T. Whole huge pages are taken");
  auto* cpu_count = command->add_option("--cpu-count", options->cpu_count, "How many CPUs to take");
  auto* cpu_ids =
      command->add_option("--cpu-ids", options->cpu_ids, "The CPUs to take, by their numbers")->expected(1, -1);
  auto* cid = command->add_option("--enclave-cid", options->enclave_cid,
                                  "The vsock address of the enclave, from 4 on. Default: one that is free");
  auto* name = command->add_option("--enclave-name", options->enclave_name,
                                   "What to call the enclave. Default: the name of the image file");
  auto* debug_mode = command->add_flag(
      "--debug-mode", options->debug_mode,
      "Debug mode: the console command shows what the enclave prints, and attestation documents have zeros for "
      "measurements");
  command->add_flag("--attach-console", options->attach_console,
                    "Show the console as soon as the enclave runs; debug mode is switched on");
  command->add_flag("--local", options->local,
                    "Run the enclave in QEMU on this machine, without isolation from it; for development. Also: "
                    "NITRO_CLI_BACKEND=local");
  auto* hugepage_size = command
                            ->add_option("--hugepage-size", options->hugepage_size,
                                         "Take huge pages of this size only: 2M or 1G. Default: large ones first")
                            ->type_name("SIZE");
  auto* config =
      command->add_option("--config", options->config, "A JSON file with the settings, in place of the other options")
          ->type_name("JSON-CONFIG");
  for (auto* other : {eif_path, memory, cpu_count, cpu_ids, cid, name, debug_mode, hugepage_size})
    config->excludes(other);
  cpu_count->excludes(cpu_ids);
  command->callback([&chosen, options, config, eif_path, memory, cpu_count, cpu_ids] {
    if (config->count() == 0) {
      if (eif_path->count() == 0) throw CLI::RequiredError("--eif-path");
      if (memory->count() == 0) throw CLI::RequiredError("--memory");
      if (cpu_count->count() == 0 && cpu_ids->count() == 0) throw CLI::RequiredError("--cpu-count or --cpu-ids");
    }
    chosen = {"Run Enclave", [options](Context& context) { return run_enclave(*options, context); }};
  });
}

}  // namespace nitro::cli
