// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace CLI {
class App;
}

namespace nitro::cli {

/// A command that nitro-cli delegates to the program nitro-cli-image.
struct ImageCommand {
  const char* name;
  const char* description;
};

inline constexpr ImageCommand kBuildEnclave{"build-enclave", "Makes an enclave image from a container image"};
inline constexpr ImageCommand kSignEif{"sign-eif", "Signs an enclave image file, in place"};

/// Makes --help list `command`. It is never run: is_for_image_program() is checked first.
void list_image_command(CLI::App& application, const ImageCommand& command);

/// Whether a command line is for nitro-cli-image: "build-enclave …", "help sign-eif". An option before the command is
/// for nitro-cli itself.
[[nodiscard]] bool is_for_image_program(int argc, const char* const* argv);

}  // namespace nitro::cli
