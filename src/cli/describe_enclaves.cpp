// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include "enclave_proc/client/client.h"
#include "src/cli/commands.h"
#include "src/cli/enclave_output.h"

namespace nitro::cli {
namespace {

Result<void> describe_enclaves(bool with_metadata) {
  NITRO_TRY(const auto folders, trusted_folders());
  NITRO_TRY(auto connections, proc::connect_to_all(folders));
  const std::string request =
      proc::encode_request(proc::Command::kDescribe, proc::encode_describe_arguments(with_metadata));
  NITRO_TRY(auto answers, proc::ask_all(std::move(connections), request, true, proc::kAnswerTimeout));
  proc::leave_out_ended(answers, folders);
  NITRO_CHECK(print_answers(answers, Shape::kArray, false, Unreadable::kLeaveOut));
  return {};
}

}  // namespace

void add_describe_enclaves(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("describe-enclaves", "Lists the running enclaves");
  auto with_metadata = std::make_shared<bool>(false);
  command->add_flag("--metadata", *with_metadata, "Include the metadata of their images");
  command->callback([&chosen, with_metadata] {
    chosen = {"Describe Enclave", [with_metadata](Context&) { return describe_enclaves(*with_metadata); }};
  });
}

}  // namespace nitro::cli
