// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <iostream>

#include "nitro/error.h"
#include "src/cli/commands.h"

namespace nitro::cli {
namespace {

Result<void> explain(std::string code) {
  std::transform(code.begin(), code.end(), code.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const auto table = error_table();
  const auto row = std::find_if(table.begin(), table.end(),
                                [&](const ErrorDescription& candidate) { return tag(candidate.code) == code; });
  if (row == table.end()) {
    std::cerr << "No such error code " << code << "\n";
    return {};
  }
  std::cerr << code << ": " << row->name << "\n" << row->meaning << "\nWhat to do: " << row->remedy << "\n";
  return {};
}

}  // namespace

void add_explain(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("explain", "Explains an error code and what to do about it");
  auto code = std::make_shared<std::string>();
  command->add_option("--error-code", *code, "The code between the brackets, E19 for instance")->required();
  command->callback([&chosen, code] { chosen = {"Explain Error", [code](Context&) { return explain(*code); }}; });
}

}  // namespace nitro::cli
