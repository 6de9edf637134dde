// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <optional>

#include "enclave_proc/client/client.h"
#include "src/cli/commands.h"
#include "src/cli/enclave_output.h"

namespace nitro::cli {
namespace {

struct Options {
  std::string enclave_id;
  std::optional<std::string> enclave_name;
  bool all = false;
};

Result<void> terminate(const Options& options) {
  NITRO_TRY(const auto folders, trusted_folders());
  std::vector<proc::Connection> connections;
  if (options.all) {
    NITRO_TRY(connections, proc::connect_to_all(folders));
  } else {
    std::string id = options.enclave_id;
    if (options.enclave_name) {
      NITRO_TRY(id, proc::id_of(*options.enclave_name, folders));
    }
    NITRO_TRY(auto connection, proc::connect_to(id, folders));
    connections.push_back(std::move(connection));
  }
  const std::string request = proc::encode_request(proc::Command::kTerminate);
  NITRO_TRY(auto answers, proc::ask_all(std::move(connections), request, false, proc::kTerminateTimeout));
  // With --all, an enclave that ended on its own counts as ended; an enclave that was named must answer.
  if (options.all) proc::leave_out_ended(answers, folders);
  NITRO_CHECK(print_answers(answers, options.all ? Shape::kArray : Shape::kObjects, options.all, Unreadable::kFail));
  return {};
}

}  // namespace

void add_terminate_enclave(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("terminate-enclave", "Terminates enclaves");
  auto options = std::make_shared<Options>();
  auto* which = command->add_option_group("which enclave");
  which->add_option("--enclave-id", options->enclave_id, "The enclave with this ID");
  which->add_option("--enclave-name", options->enclave_name, "The enclave with this name");
  which->add_flag("--all", options->all, "Every enclave that this user has started");
  which->require_option(1);
  command->callback([&chosen, options] {
    chosen = {options->all ? "Terminate All Enclaves" : "Terminate Enclave",
              [options](Context&) { return terminate(*options); }};
  });
}

}  // namespace nitro::cli
