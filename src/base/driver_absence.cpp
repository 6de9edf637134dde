// SPDX-License-Identifier: Apache-2.0
#include "src/base/driver_absence.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/text.h"

namespace nitro {
namespace {

constexpr std::string_view kModule = "nitro_enclaves";
/// The PCI device that the driver looks for (ne_pci_dev.h, PCI_DEVICE_ID_NE): an instance has it if enclaves are
/// enabled.
constexpr std::string_view kVendor = "0x1d0f";
constexpr std::string_view kDevice = "0xe4c1";
constexpr std::string_view kMakerOfInstances = "Amazon EC2";
/// The list of a kernel with every module there is has 1 MiB.
constexpr std::size_t kListLimitBytes = std::size_t{16} * 1024 * 1024;
constexpr std::size_t kLineLimitBytes = 4096;
/// More than a path may have is no release; the kernel's own limit is 64 (linux/utsname.h).
constexpr std::size_t kReleaseLimitBytes = 255;

#if defined(__aarch64__)
constexpr std::string_view kDebianArchitecture = "arm64";
#else
constexpr std::string_view kDebianArchitecture = "amd64";
#endif

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

/// The line of a file that has one; empty if it cannot be read.
std::string read_line(const std::string& path) {
  const auto text = read_text_file(path, kLineLimitBytes);
  return text ? std::string(trimmed(std::string_view(*text).substr(0, text->find('\n')))) : std::string();
}

/// Whether the machine has the device; nothing if the kernel does not show its devices here.
std::optional<bool> has_enclave_device(const KernelFiles& files) {
  std::error_code error;
  std::filesystem::directory_iterator device(files.pci_devices(), error);
  if (error) return std::nullopt;
  for (const std::filesystem::directory_iterator end; !error && device != end; device.increment(error)) {
    const std::string folder = device->path().string();
    if (read_line(folder + "/vendor") == kVendor && read_line(folder + "/device") == kDevice) return true;
  }
  return error ? std::nullopt : std::optional(false);
}

enum class Module { kPresent, kAbsent, kUnknown };

/// Whether a list of modules (modules.dep(5)) has ours, compressed or not. The kernel does not tell '-' from '_'.
bool lists_module(std::string_view list) {
  while (!list.empty()) {
    std::string_view line = list.substr(0, list.find('\n'));
    list.remove_prefix(std::min(list.size(), line.size() + 1));
    line = line.substr(0, line.find(':'));
    const std::size_t slash = line.rfind('/');
    std::string name(slash == std::string_view::npos ? line : line.substr(slash + 1));
    std::replace(name.begin(), name.end(), '-', '_');
    if (name.starts_with(kModule) && std::string_view(name).substr(kModule.size()).starts_with(".ko")) return true;
  }
  return false;
}

Module module_on_disk(const KernelFiles& files, const std::string& release) {
  if (release.empty() || release.size() > kReleaseLimitBytes || release.front() == '.' ||
      release.find('/') != std::string::npos) {
    return Module::kUnknown;
  }
  const auto list = read_text_file(files.modules(release) + "/modules.dep", kListLimitBytes);
  if (!list) return Module::kUnknown;
  return lists_module(*list) ? Module::kPresent : Module::kAbsent;
}

struct Distribution {
  std::string id;
  std::string version;
};

/// What os-release(5) says; unknown fields are empty.
Distribution distribution(const KernelFiles& files) {
  Distribution found;
  const auto text = read_text_file(files.distribution(), std::size_t{64} * 1024);
  if (!text) return found;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = trimmed(line.substr(0, equals));
    const std::string_view value = trimmed(trimmed(line.substr(equals + 1)), "\"'");
    if (name == "ID") found.id = value;
    if (name == "VERSION_ID") found.version = value;
  }
  return found;
}

/// Which package brings the driver. drivers/README.md names the kernels, and where that was seen.
std::string advice_for_kernel(const KernelFiles& files, const std::string& release) {
  const Distribution system = distribution(files);
  if (system.id == "debian" && system.version == "12") {
    return fmt::format(
        "install linux-image-6.12-{0} or linux-image-6.12-cloud-{0} and restart, or build the driver: "
        "build-driver(8)",
        kDebianArchitecture);
  }
  if (system.id == "debian") {
    return fmt::format("install linux-image-{0} or linux-image-cloud-{0} of Debian 13 or later and restart",
                       kDebianArchitecture);
  }
  if (system.id == "ubuntu") return fmt::format("install linux-modules-extra-{}", printable(release));
  if (system.id == "amzn") return "install the newest package kernel and restart";
  return "use a kernel with CONFIG_NITRO_ENCLAVES, or build the driver: build-driver(8)";
}

std::string why_not_loaded(const KernelFiles& files) {
  const std::string release = read_line(files.release());
  switch (module_on_disk(files, release)) {
    case Module::kPresent:
      return "the driver nitro_enclaves is not loaded: modprobe nitro_enclaves";
    case Module::kAbsent:
      return fmt::format("the kernel {} has no driver nitro_enclaves: {}", printable(release),
                         advice_for_kernel(files, release));
    case Module::kUnknown:
      break;
  }
  return "the driver nitro_enclaves is not loaded: modprobe nitro_enclaves, on an EC2 instance with enclaves enabled "
         "(in a container: on its host)";
}

}  // namespace

std::string why_no_driver(const KernelFiles& files) {
  if (exists(files.device_class())) {
    return fmt::format(
        "the driver has its device, but there is no {} here: give it to the container (docker run --device {})",
        KernelFiles{}.device(), KernelFiles{}.device());
  }
  const auto has_device = has_enclave_device(files);
  if (has_device && !*has_device) {
    const std::string maker = read_line(files.maker());
    if (maker == kMakerOfInstances) {
      return "enclaves are not enabled for this EC2 instance: launch one with them (aws ec2 run-instances "
             "--enclave-options Enabled=true)";
    }
    return maker.empty()
               ? "this machine is not an EC2 instance with enclaves enabled"
               : fmt::format("this machine, of {}, is not an EC2 instance with enclaves enabled", quote(maker));
  }
  if (!exists(files.driver())) return why_not_loaded(files);
  return "the driver nitro_enclaves is loaded, but has no device: check the kernel log (dmesg), and that enclaves are "
         "enabled for this EC2 instance";
}

}  // namespace nitro
