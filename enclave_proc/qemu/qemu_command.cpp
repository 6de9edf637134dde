// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu_command.h"

#include <fmt/format.h>

#include <string_view>

namespace nitro::proc {
namespace {

/// An argument that is a list of options, "type,key=value,…". Every option has its key, because QEMU would search a
/// bare value for one; a comma in a value is doubled (qemu(1)). So no value can end its option or begin another.
class OptionList {
 public:
  /// `type`: the leading word of the list, if it has one.
  explicit OptionList(std::string_view type = {}) : text_(type) {}

  OptionList& add(std::string_view key, std::string_view value) {
    if (!text_.empty()) text_ += ',';
    text_.append(key).append("=");
    for (const char c : value) text_.append(c == ',' ? 2U : 1U, c);
    return *this;
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string machine_argument(const QemuSettings& settings) {
  switch (settings.machine) {
    case QemuMachineType::kNitroEnclave:
      return OptionList("nitro-enclave").add("vsock", "vsock").add("id", settings.enclave_id).text();
    case QemuMachineType::kVirt:
      return OptionList("virt").add("memory-backend", "memory").add("gic-version", "max").text();
    case QemuMachineType::kMicrovm:
      break;
  }
  // With ACPI neither the serial port's interrupts arrive nor is the vsock device found; without the legacy timer and
  // interrupt controller the kernel does not get past its clock calibration under TCG. Option ROMs only cost time.
  return OptionList("microvm")
      .add("acpi", "off")
      .add("memory-backend", "memory")
      .add("x-option-roms", "off")
      .add("isa-serial", "on")
      .add("rtc", "on")
      .text();
}

}  // namespace

std::vector<std::string> qemu_arguments(const QemuSettings& settings) {
  const bool kvm = settings.accelerator == QemuAccelerator::kKvm;
  const std::string memory = fmt::format("{}M", settings.memory.mib());
  std::vector<std::string> arguments{settings.binary};
  const auto add = [&arguments](auto&&... more) { (arguments.emplace_back(more), ...); };

  add("-name", OptionList().add("guest", settings.name).text());
  // Only what is requested here: no default devices or configuration files.
  add("-nodefaults", "-no-user-config");
  for (const std::string& folder : settings.firmware_folders) add("-L", folder);
  if (settings.sandbox) add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  add("-M", machine_argument(settings));
  add("-accel", kvm ? "kvm" : "tcg", "-cpu", kvm ? "host" : "max");
  add("-smp", fmt::format("{}", settings.cpu_count), "-m", memory);
  if (settings.machine == QemuMachineType::kNitroEnclave) {
    add("-kernel", settings.image);
  } else {
    // The vsock device must see the guest's memory, so that is a memfd that both processes map.
    add("-object",
        OptionList("memory-backend-memfd").add("id", "memory").add("size", memory).add("share", "on").text());
    // Emulated interrupts may come late on a busy host, and the kernel's timer test then ends in a panic. Guests of KVM
    // skip the test anyway.
    const std::string_view emulated = settings.machine == QemuMachineType::kMicrovm && !kvm ? " no_timer_check" : "";
    add("-kernel", settings.kernel, "-initrd", settings.ramdisk, "-append",
        fmt::format("{}{}", settings.command_line, emulated));
  }
  add("-chardev", OptionList("socket").add("id", "vsock").add("fd", std::to_string(settings.vhost_user_fd)).text());
  // The nitro-enclave machine creates the device itself.
  if (settings.machine != QemuMachineType::kNitroEnclave) {
    add("-device", OptionList("vhost-user-vsock-device").add("chardev", "vsock").text());
  }
  // The command lines of enclaves reboot through the keyboard controller ("reboot=k"), which these machines lack by
  // default.
  if (settings.machine != QemuMachineType::kVirt) add("-device", "i8042");
  add("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot");
  return arguments;
}

}  // namespace nitro::proc
