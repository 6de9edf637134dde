// SPDX-License-Identifier: Apache-2.0
#include "src/command/image_commands.h"

#include <CLI/CLI.hpp>
#include <string_view>

namespace nitro::cli {

void list_image_command(CLI::App& application, const ImageCommand& command) {
  application.add_subcommand(command.name, command.description);
}

bool is_for_image_program(int argc, const char* const* argv) {
  const int first = argc > 1 && std::string_view(argv[1]) == "help" ? 2 : 1;
  if (argc <= first) return false;
  const std::string_view word = argv[first];
  return word == kBuildEnclave.name || word == kSignEif.name;
}

}  // namespace nitro::cli
