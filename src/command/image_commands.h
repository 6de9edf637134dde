// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace CLI {
class App;
}

namespace nitro::cli {

/// A command that the program nitro-cli-image runs for nitro-cli.
struct ImageCommand {
  const char* name;
  const char* description;
};

inline constexpr ImageCommand kBuildEnclave{"build-enclave", "Makes an enclave image from a container image"};
inline constexpr ImageCommand kSignEif{"sign-eif", "Signs an enclave image file, in place"};

/// Has `command` listed by --help. It is never run: is_for_image_program() is asked first.
void list_image_command(CLI::App& application, const ImageCommand& command);

/// Whether a command line is one of nitro-cli-image's: "build-enclave …", "help sign-eif". An option before the command
/// is nitro-cli's own.
[[nodiscard]] bool is_for_image_program(int argc, const char* const* argv);

}  // namespace nitro::cli
