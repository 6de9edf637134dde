// SPDX-License-Identifier: Apache-2.0
#include "src/command/run_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <iostream>

#include "src/base/environment.h"
#include "src/base/version.h"
#include "src/command/arguments.h"
#include "src/runtime/directories.h"
#include "src/runtime/error_report.h"
#include "src/runtime/privileges.h"
#include "src/runtime/program_start.h"

namespace nitro::cli {
namespace {

/// The exit status that scripts expect for an invalid command line.
constexpr int kUsageStatus = 2;

Result<Context> make_context() {
  Context context;
  auto folder = logs_folder();
  auto log = folder ? Log::open(*folder) : Result<Log>(Failure(folder.error()));
  if (log) {
    context.log = std::move(*log);
    context.logs_folder = *folder;
  } else if (environment_variable("NITRO_CLI_LOGS_PATH")) {
    // A folder that somebody chose must work; otherwise a user without a place for logs can still use the tool.
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

int parse_and_run(int argc, char** argv, const AddCommands& add_commands) {
  CLI::App application("Builds, signs, runs and watches Nitro Enclaves", "nitro-cli");
  application.set_version_flag("-V,--version", fmt::format("Nitro CLI {}", kVersion), "Print version");
  application.require_subcommand(1);
  application.set_help_flag("-h,--help", "Print help");
  application.get_formatter()->column_width(32);
  Chosen chosen;
  add_commands(application, chosen);
  if (argc <= 1) {
    std::cerr << application.help();
    return kUsageStatus;
  }
  try {
    parse_arguments(application, argc, argv);
  } catch (const CLI::ParseError& error) {
    return application.exit(error) == 0 ? 0 : kUsageStatus;
  }
  // Done before any secret is read. Not for the other commands: run-enclave becomes the enclave process, which holds no
  // secrets and which its user may want to inspect.
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

int run_command(int argc, char** argv, const AddCommands& add_commands) {
  try {
    if (auto prepared = prepare_program(); !prepared) {
      std::cerr << "nitro-cli: " << prepared.error().message() << "\n";
      return EXIT_FAILURE;
    }
    return parse_and_run(argc, argv, add_commands);
  } catch (const std::exception& exception) {
    // The only catch for exceptions: a bug, or no memory.
    std::cerr << "nitro-cli failed: " << exception.what() << "\n";
    return EXIT_FAILURE;
  }
}

}  // namespace nitro::cli
