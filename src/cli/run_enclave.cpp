// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "src/base/bytes.h"
#include "src/base/utf8.h"
#include "src/cli/commands.h"
#include "src/cli/console.h"
#include "src/cli/enclave_output.h"
#include "src/cli/enclave_start.h"
#include "src/cli/run_settings.h"

namespace nitro::cli {
namespace {

/// Names become part of other tools' file names, of scripts and of messages.
constexpr std::size_t kMaxNameBytes = 255;

Result<void> check_name(const std::string& name) {
  const bool usable = is_plain_text(name) && name.find('/') == std::string::npos && name != "." && name != "..";
  if (name.empty() || name.size() > kMaxNameBytes || !usable) {
    return fail(ErrorCode::kEnclaveNaming,
                fmt::format("{} cannot be the name of an enclave", quote(name.substr(0, 300))));
  }
  return {};
}

/// Reports that the enclave runs. If this fails, the enclave is not left running.
Result<Fd> hand_over(const proc::Answer& answer, bool attach_console, const std::vector<proc::SocketsFolder>& folders) {
  NITRO_TRY(const auto objects, print_answers({answer}, Shape::kObjects, false, Unreadable::kFail));
  if (!std::cout.flush()) return fail(ErrorCode::kFileOperation, "the output could not be written");
  if (!attach_console) return Fd();
  return connect_to_console(objects.front().at("EnclaveID").get<std::string>(), folders);
}

Result<void> run_enclave(const RunOptions& options, Context& context) {
  NITRO_TRY(auto settings, read_settings(options));
  proc::RunRequest& request = settings.request;
  NITRO_CHECK(check_name(request.enclave_name));
  if (request.backend == proc::Backend::kQemu) {
    if (request.hugepage_size) {
      return fail(ErrorCode::kConflictingArgument,
                  "--hugepage-size is for enclaves of the device; local enclaves do not take huge pages");
    }
    std::cerr << "Local enclave: QEMU runs it on this machine, and it is not isolated from its host.\n";
  }
  NITRO_TRY(const auto folder, proc::sockets_folder_for_new_enclave());
  NITRO_TRY(const auto folders, trusted_folders());
  NITRO_TRY(auto process, start_process(request, folder, folders, context.logs_folder));
  SPDLOG_LOGGER_INFO(&*context.log, "started the enclave process for {}", quote(request.eif_path));
  const auto answer = follow_start(process);
  if (!answer) {
    process.end();
    return Failure(answer.error());
  }
  if (answer->status != 0) return not_started(*answer, process);
  auto console = hand_over(*answer, settings.attach_console, folders);
  if (!console) {
    process.end();
    return fail_within("the enclave was terminated again", std::move(console).error());
  }
  process.leave_running();
  if (!*console) return {};
  return show_console(*console, std::nullopt);
}

}  // namespace

void add_run_enclave(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("run-enclave", "Runs an enclave image");
  auto options = std::make_shared<RunOptions>();
  auto* eif_path = command->add_option("--eif-path", options->eif_path, "The enclave image file to run");
  auto* memory = command->add_option(
      "--memory", options->memory,
      "Size of the enclave's memory in MiB, or with a unit: 512M, 2G, 1T. Whole huge pages are taken");
  auto* cpu_count = command->add_option("--cpu-count", options->cpu_count, "Number of CPUs");
  auto* cpu_ids = command->add_option("--cpu-ids", options->cpu_ids, "The numbers of the CPUs")->expected(1, -1);
  auto* cid = command->add_option("--enclave-cid", options->enclave_cid,
                                  "The vsock address (CID) of the enclave, from 4 on. Default: a free one");
  auto* name = command->add_option("--enclave-name", options->enclave_name,
                                   "Name of the enclave. Default: the name of the image file");
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
