// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "enclave_proc/qemu/qemu_command.h"
#include "nitro/result.h"
#include "src/runtime/privileges.h"

namespace nitro::proc {

/// What this machine has for running local enclaves.
struct QemuProbe {
  std::string binary;
  std::vector<std::string> firmware_folders;
  bool sandbox = false;
  bool nitro_enclave_machine = false;
  bool kvm = false;
  std::optional<UserIds> user;  ///< the user it can run as; absent: this process's user
};

struct QemuVersion {
  unsigned major = 0;
  unsigned minor = 0;
  auto operator<=>(const QemuVersion&) const = default;
};
inline constexpr QemuVersion kOldestQemu{7, 2};

/// Parses the version out of "QEMU emulator version 7.2.22 (…)". Returns nullopt for any other text.
[[nodiscard]] std::optional<QemuVersion> parse_qemu_version(std::string_view text);
/// Whether the output of `-machine help` has a line for `machine`.
[[nodiscard]] bool lists_machine(std::string_view help, std::string_view machine);

/// Chooses the user that QEMU runs as, given whether it uses KVM.
using UserChoice = std::function<std::optional<UserIds>(bool kvm)>;

/// Queries the QEMU that NITRO_CLI_QEMU names, else qemu-system-x86_64 or qemu-system-aarch64 of the PATH, for its
/// version and machines: two short concurrent runs, about 20 ms in all. They run as the user that `choose_user`
/// returns, as the enclave will, unless that user may not execute the binary or the kernel does not let this process
/// change its user (a container may forbid it). Errors: kEnclaveBoot when there is no QEMU or it is too old; the
/// message says which one and what is needed.
Result<QemuProbe> probe_qemu(const UserChoice& choose_user = {});

/// Whether this process may use /dev/kvm and KVM runs guests: the CPU has virtualization extensions, and a guest of one
/// instruction runs to its end. A /dev/kvm that only emulates such extensions does not run ordinary kernels.
[[nodiscard]] bool kvm_usable();

}  // namespace nitro::proc
