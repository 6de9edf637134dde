// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "nitro/result.h"
#include "src/base/kernel_files.h"

namespace nitro::setup {

/// Says what is done.
using Say = std::function<void(const std::string&)>;

/// The driver nitro_enclaves of this machine.
class Driver {
 public:
  Driver(KernelFiles files, Say say) : files_(std::move(files)), say_(std::move(say)) {}

  [[nodiscard]] bool is_loaded() const;

  /// Loads the one of the system, unless one is loaded. Errors: kProcessSpawn.
  Result<void> load();
  /// Loads the module of a file, in place of the one that is loaded, and gives it the same CPUs. If it cannot be
  /// loaded, that of the system is. Errors: kFileOperation, kProcessSpawn, kCpu; EPERM is in the error while enclaves
  /// run.
  Result<void> load(const std::string& module);
  /// Errors: kFileOperation if it is not loaded; kProcessSpawn; EPERM is in the error while enclaves run.
  Result<void> remove();

 private:
  Result<void> check_unused() const;
  Result<void> use_system_module();
  Result<void> give_cpus(const std::vector<std::uint32_t>& cpus);

  KernelFiles files_;
  Say say_;
};

/// Where the module is that is built from the sources in `folder`: as with the AWS tool, beside these.
[[nodiscard]] std::string module_in(const std::string& folder);

/// Builds the module, with the program build-driver. `shown`: its output goes to stderr. Returns whether it was built:
/// not if the kernel comes with one. Errors: kFileOperation when there are no sources; kProcessSpawn.
Result<bool> build_driver(const std::string& folder, bool shown);
/// Removes the module, if it is there. Errors: kFileOperation, also when there are no sources.
Result<void> clean_driver(const std::string& folder);

}  // namespace nitro::setup
