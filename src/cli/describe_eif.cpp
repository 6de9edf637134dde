// SPDX-License-Identifier: Apache-2.0
#include "src/cli/describe_eif.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "nitro/eif/describe_json.h"
#include "nitro/eif/reader.h"
#include "src/cli/commands.h"
#include "src/command/output.h"

namespace nitro {

Result<void> describe_eif(const std::string& path, std::ostream& out) {
  auto description = eif::describe(path);
  // Scripts expect a single code for anything wrong with the file.
  if (!description) return Failure(std::move(description).error().as(ErrorCode::kEifParsing));
  print_json(out, eif::to_json(*description));
  return {};
}

}  // namespace nitro

namespace nitro::cli {

void add_describe_eif(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("describe-eif", "Describes an enclave image file");
  auto path = std::make_shared<std::string>();
  command->add_option("--eif-path", *path, "The enclave image file")->required();
  command->callback([&chosen, path] {
    chosen = {"Describe EIF", [path](Context&) { return describe_eif(*path, std::cout); }};
  });
}

}  // namespace nitro::cli
