// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nitro::setup {

enum class Action {
  kBuild,   ///< the driver, from sources
  kClean,   ///< remove what kBuild has made
  kInsert,  ///< load the driver, and let the group `ne` use it
  kRemove,  ///< unload the driver
};

/// What is to be set aside for enclaves; see AllocatorConfig.
struct Resources {
  std::optional<std::uint64_t> memory_mib;
  std::vector<std::uint32_t> cpus;  ///< each once
  std::uint32_t cpu_count = 0;      ///< 0: `cpus`, or those that are set aside already

  [[nodiscard]] bool any() const { return memory_mib || !cpus.empty() || cpu_count > 0; }
};

/// The command line of nitro-cli-config(8).
struct Options {
  bool verbose = false;
  std::vector<Action> actions;               ///< in the order of the command line; all come before `resources`
  std::optional<std::string> driver_folder;  ///< with the driver's sources, and the module that is built from them
  Resources resources;
  bool use_sudo = true;  ///< for what needs root
  std::string root;      ///< in front of all paths
};

/// What a command line asks for: options, or a text to print before the program ends.
struct CommandLine {
  std::optional<Options> options;
  std::string text;
  int status = 0;
};

CommandLine parse_options(int argc, const char* const* argv);

}  // namespace nitro::setup
