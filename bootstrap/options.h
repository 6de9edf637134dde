// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace nitro::allocator {

enum class Action {
  kReserve,
  kDryRun,   ///< only the plan
  kCheck,    ///< only the configuration
  kStatus,   ///< what was asked for, what there is, and what enclaves hold
  kRelease,  ///< give everything back
};

struct Options {
  Action action = Action::kReserve;
  bool json = false;
  std::string config;
  std::string root;  ///< in front of /sys and /run
};

/// What a command line asks for: options, or a text to print before the program ends.
struct CommandLine {
  std::optional<Options> options;
  std::string text;
  int status = 0;
};

CommandLine parse_options(int argc, const char* const* argv);

}  // namespace nitro::allocator
