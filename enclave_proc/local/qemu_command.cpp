// SPDX-License-Identifier: Apache-2.0
#include "qemu_command.h"

#include <fmt/format.h>

#include <string_view>

namespace nitro::proc {
namespace {

/// A value inside an option's list: a comma is written twice (qemu(1)).
std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    text += c;
    if (c == ',') text += c;
  }
  return text;
}

std::string machine_argument(const QemuSettings& settings) {
  switch (settings.machine) {
    case QemuMachine::kNitroEnclave:
      return fmt::format("nitro-enclave,vsock=vsock,id={}", escaped(settings.enclave_id));
    case QemuMachine::kVirt:
      return "virt,memory-backend=memory,gic-version=max";
    case QemuMachine::kMicrovm:
      break;
  }
  // With ACPI neither the serial port's interrupts arrive nor is the vsock device found; without the timer and
  // interrupt controller of old the kernel does not get past the calibration of its clock under TCG. Option ROMs only
  // cost time.
  return "microvm,acpi=off,memory-backend=memory,x-option-roms=off,isa-serial=on,rtc=on";
}

}  // namespace

std::vector<std::string> qemu_arguments(const QemuSettings& settings) {
  const bool kvm = settings.accelerator == QemuAccelerator::kKvm;
  const std::string memory = fmt::format("{}M", settings.memory.mib());
  std::vector<std::string> arguments{settings.binary};
  const auto add = [&arguments](auto&&... more) { (arguments.emplace_back(more), ...); };

  add("-name", escaped(settings.name));
  // Nothing but what is asked for here, neither devices nor files of configuration.
  add("-nodefaults", "-no-user-config");
  for (const std::string& folder : settings.firmware_folders) add("-L", folder);
  if (settings.sandbox) add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  add("-M", machine_argument(settings));
  add("-accel", kvm ? "kvm" : "tcg", "-cpu", kvm ? "host" : "max");
  add("-smp", fmt::format("{}", settings.cpu_count), "-m", memory);
  if (settings.machine == QemuMachine::kNitroEnclave) {
    add("-kernel", settings.image);
  } else {
    // The vsock device needs to see the guest's memory: a memfd that both processes map.
    add("-object", fmt::format("memory-backend-memfd,id=memory,size={},share=on", memory));
    // Emulated interrupts may come late on a busy host, and the kernel's test of its timer then ends in a panic. Guests
    // of KVM leave the test out by themselves.
    const std::string_view emulated = settings.machine == QemuMachine::kMicrovm && !kvm ? " no_timer_check" : "";
    add("-kernel", settings.kernel, "-initrd", settings.ramdisk, "-append",
        fmt::format("{}{}", settings.command_line, emulated));
  }
  add("-chardev", fmt::format("socket,id=vsock,fd={}", settings.vhost_user_fd));
  // The nitro-enclave machine makes the device itself.
  if (settings.machine != QemuMachine::kNitroEnclave) add("-device", "vhost-user-vsock-device,chardev=vsock");
  // The command lines of enclaves reboot through the keyboard controller ("reboot=k"), which these machines do not have
  // of themselves.
  if (settings.machine != QemuMachine::kVirt) add("-device", "i8042");
  add("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot");
  return arguments;
}

}  // namespace nitro::proc
