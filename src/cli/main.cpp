// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <exception>
#include <iostream>

#include "nitro/directories.h"
#include "nitro/error_report.h"
#include "nitro/privileges.h"
#include "nitro/program_start.h"
#include "nitro/version.h"
#include "src/arguments/arguments.h"
#include "src/cli/command.h"

namespace nitro::cli {
namespace {

/// What scripts have come to expect of a command line that cannot be understood.
constexpr int kUsageStatus = 2;

Result<Context> make_context() {
  Context context;
  auto folder = logs_folder();
  auto log = folder ? Log::open(*folder) : Result<Log>(Failure(folder.error()));
  if (log) {
    context.log = std::move(*log);
    context.logs_folder = *folder;
  } else if (std::getenv("NITRO_CLI_LOGS_PATH") != nullptr) {
    // A folder that somebody chose has to work; without one, a user who has no place for logs can still use the tool.
    return fail_within("opening the log", std::move(log).error());
  }
  return context;
}

int fail_with(const Error& error, const std::string& action, Context& context) {
  SPDLOG_LOGGER_ERROR(&*context.log, "[ {} ] {}", tag(error.code()), error.message());
  std::cout.flush();
  std::cerr << report(error, action, context.logs_folder);
  return exit_status(error.code());
}

int run(int argc, char** argv) {
  CLI::App application("Builds, signs, runs and watches Nitro Enclaves", "nitro-cli");
  application.set_version_flag("-V,--version", fmt::format("Nitro CLI {}", kVersion), "Print version");
  application.require_subcommand(1);
  application.set_help_flag("-h,--help", "Print help");
  application.get_formatter()->column_width(32);
  Chosen chosen;
  add_run_enclave(application, chosen);
  add_terminate_enclave(application, chosen);
  add_build_enclave(application, chosen);
  add_describe_eif(application, chosen);
  add_describe_enclaves(application, chosen);
  add_console(application, chosen);
  add_pcr(application, chosen);
  add_explain(application, chosen);
  add_sign_eif(application, chosen);
  if (argc <= 1) {
    std::cerr << application.help();
    return kUsageStatus;
  }
  try {
    parse_arguments(application, argc, argv);
  } catch (const CLI::ParseError& error) {
    return application.exit(error) == 0 ? 0 : kUsageStatus;
  }
  // Before any is read. Not for the other commands: run-enclave becomes the enclave process, which has no secret and
  // which its user may want to look into.
  if (chosen.holds_secrets) forbid_memory_dumps();
  auto context = make_context();
  if (!context) {
    Context without_log;
    return fail_with(context.error(), chosen.action, without_log);
  }
  SPDLOG_LOGGER_INFO(&*context->log, "start: {}", chosen.action);
  if (auto result = chosen.run(*context); !result) return fail_with(result.error(), chosen.action, *context);
  if (!std::cout.flush()) {
    return fail_with(Error(ErrorCode::kFileOperation, "the output could not be written"), chosen.action, *context);
  }
  return 0;
}

}  // namespace
}  // namespace nitro::cli

int main(int argc, char** argv) {
  try {
    if (auto prepared = nitro::prepare_program(); !prepared) {
      std::cerr << "nitro-cli: " << prepared.error().message() << "\n";
      return EXIT_FAILURE;
    }
    return nitro::cli::run(argc, argv);
  } catch (const std::exception& exception) {
    // The one place for exceptions: a bug, or no memory.
    std::cerr << "nitro-cli failed: " << exception.what() << "\n";
    return EXIT_FAILURE;
  }
}
