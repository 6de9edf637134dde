// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "nitro/result.h"
#include "src/runtime/log.h"

namespace CLI {
class App;
}

/// What the subcommands of nitro-cli have in common.
namespace nitro::cli {

/// What every command is given.
struct Context {
  Log log = Log::none();
  std::string logs_folder;  ///< empty when there is none
};

/// The command that was chosen on the command line.
struct Chosen {
  std::string action;  ///< how messages call it, e.g. "Run Enclave"
  std::function<Result<void>(Context&)> run;
  bool holds_secrets = false;  ///< private keys, passwords of registries, credentials of AWS
};

}  // namespace nitro::cli
