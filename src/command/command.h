// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "nitro/result.h"
#include "src/runtime/log.h"

namespace CLI {
class App;
}

/// Definitions shared by the subcommands of nitro-cli.
namespace nitro::cli {

/// The context that every command gets.
struct Context {
  Log log = Log::none();
  std::string logs_folder;  ///< empty when there is none
};

/// The command that was chosen on the command line.
struct Chosen {
  std::string action;  ///< its name in messages, e.g. "Run Enclave"
  std::function<Result<void>(Context&)> run;
  bool holds_secrets = false;  ///< private keys, registry passwords, AWS credentials
};

}  // namespace nitro::cli
