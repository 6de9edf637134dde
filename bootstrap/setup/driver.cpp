// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/driver.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "bootstrap/allocator/kernel.h"
#include "bootstrap/setup/tool.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/cpu_list.h"
#include "src/base/number.h"
#include "src/base/text.h"
#include "src/runtime/directories.h"

namespace nitro::setup {
namespace {

constexpr const char* kName = "nitro_enclaves";
/// Below the folder of -d.
constexpr const char* kSources = "/drivers/virt/nitro_enclaves";

Result<void> check_sources(const std::string& folder) {
  const std::string sources = folder + kSources;
  if (is_folder(sources)) return {};
  return fail(ErrorCode::kFileOperation,
              fmt::format("the sources of the driver are not in {}, as there is no folder {}; -d names the folder that "
                          "has them",
                          quote(folder), quote(sources)));
}

/// A module for another kernel is found out before the driver that works is removed, if modinfo is there.
Result<void> check_kernel(const std::string& module) {
  if (!has_tool("modinfo")) return {};
  const auto magic = run_tool({"modinfo", "-F", "vermagic", module});
  if (!magic) return {};
  utsname running{};
  ::uname(&running);
  const std::string built_for = magic->substr(0, magic->find(' '));
  if (built_for == running.release) return {};
  return fail(ErrorCode::kFileOperation, fmt::format("{} is for the kernel {}, but {} is running; -b builds it again",
                                                     quote(module), quote(built_for), running.release));
}

}  // namespace

bool Driver::is_loaded() const {
  return is_folder(files_.driver());
}

Result<void> Driver::check_unused() const {
  // A driver that is part of the kernel has no such file, and rmmod says so.
  const auto users = read_text_file(files_.driver_users());
  if (!users || parse_number<std::uint64_t>(trimmed(*users)) == 0U) return {};
  return Failure(Error(ErrorCode::kFileOperation,
                       "the driver nitro_enclaves is in use, and cannot be removed meanwhile: end the enclaves first "
                       "(nitro-cli terminate-enclave --all)",
                       EPERM));
}

Result<void> Driver::use_system_module() {
  std::vector<std::string> command = {"modprobe", kName};
  if (!files_.root.empty()) command.insert(command.begin() + 1, "--dirname=" + files_.root);
  auto loaded = run_tool(std::move(command));
  if (!loaded) return Failure(std::move(loaded).error());
  if (is_loaded()) return {};
  return fail(ErrorCode::kFileOperation, "modprobe succeeded, but the driver nitro_enclaves is not there");
}

Result<void> Driver::give_cpus(const std::vector<std::uint32_t>& cpus) {
  if (cpus.empty()) return {};
  return allocator::Kernel(files_).set_cpu_pool(cpus);
}

Result<void> Driver::load() {
  if (is_loaded()) {
    say_("The driver is loaded already");
    return {};
  }
  auto loaded = use_system_module();
  if (!loaded) {
    return fail(loaded.error().code(),
                fmt::format("{}; -b builds the driver where the kernel does not come with it, and -d names its folder",
                            loaded.error().message()));
  }
  say_("The driver is loaded");
  return {};
}

Result<void> Driver::load(const std::string& module) {
  if (!std::filesystem::is_regular_file(module)) {
    return fail(
        ErrorCode::kFileOperation,
        fmt::format("there is no module {}: -b builds it, and -i without -d loads that of the system", quote(module)));
  }
  NITRO_CHECK(check_kernel(module));
  const bool was_loaded = is_loaded();
  std::vector<std::uint32_t> cpus;
  if (was_loaded) {
    NITRO_TRY(const auto before, allocator::Topology::read(files_));
    cpus = before.cpu_pool.value_or(cpus);
    NITRO_CHECK(remove());
  }
  auto loaded = run_tool({"insmod", module});
  if (loaded && is_loaded()) {
    NITRO_CHECK(give_cpus(cpus));
    say_(fmt::format("The driver is loaded from {}", quote(module)));
    return {};
  }
  const std::string why =
      loaded ? "insmod succeeded, but the driver nitro_enclaves is not there" : loaded.error().message();
  if (!was_loaded) return fail(ErrorCode::kProcessSpawn, why);
  auto again = use_system_module();
  if (again) again = give_cpus(cpus);
  return fail(
      ErrorCode::kProcessSpawn,
      why + (again ? "; the driver of the system is loaded again"
                   : "; besides, the driver of the system could not be loaded again: " + again.error().message()));
}

Result<void> Driver::remove() {
  if (!is_loaded()) return fail(ErrorCode::kFileOperation, "the driver nitro_enclaves is not loaded");
  NITRO_CHECK(check_unused());
  auto removed = run_tool({"rmmod", kName});
  if (!removed) {
    // An enclave may have started since.
    NITRO_CHECK(check_unused());
    return Failure(std::move(removed).error());
  }
  if (is_loaded())
    return fail(ErrorCode::kFileOperation, "rmmod succeeded, but the driver nitro_enclaves is still there");
  say_("The driver is removed");
  return {};
}

std::string module_in(const std::string& folder) {
  return folder + kSources + "/nitro_enclaves.ko";
}

Result<bool> build_driver(const std::string& folder, bool shown) {
  NITRO_CHECK(check_sources(folder));
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail_errno(ErrorCode::kFileOperation, "finding where nitro-cli-config is installed", error.value());
  const std::string program = (self.parent_path() / NITRO_BUILD_DRIVER).lexically_normal().string();
  if (::access(program.c_str(), X_OK) != 0) {
    return fail_errno(
        ErrorCode::kFileOperation,
        fmt::format("starting {}, which builds the driver and is installed with nitro-cli", quote(program)));
  }
  constexpr int kKernelHasIt = 3;
  NITRO_TRY(const int status,
            run_long_tool({program, "--source", folder, "--output", folder + kSources}, shown, {0, kKernelHasIt}));
  if (status == kKernelHasIt) return false;
  if (std::filesystem::is_regular_file(module_in(folder))) return true;
  return fail(ErrorCode::kFileOperation,
              fmt::format("{} succeeded, but there is no {}", quote(program), quote(module_in(folder))));
}

Result<void> clean_driver(const std::string& folder) {
  NITRO_CHECK(check_sources(folder));
  const std::string module = module_in(folder);
  if (::unlink(module.c_str()) == 0 || errno == ENOENT) return {};
  return fail_errno(ErrorCode::kFileOperation, "removing " + quote(module));
}

}  // namespace nitro::setup
