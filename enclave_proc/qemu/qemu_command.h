// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "src/base/memory_size.h"

namespace nitro::proc {

/// Which of QEMU's machines an enclave runs on.
enum class QemuMachineType {
  kMicrovm,       ///< x86_64; kernel, command line and ramdisks of the image
  kVirt,          ///< aarch64; likewise
  kNitroEnclave,  ///< the image as it is; has the Nitro Security Module
};

enum class QemuAccelerator { kKvm, kTcg };

/// Everything that decides how QEMU is called. Descriptors are numbers in the child, which are those of this process.
struct QemuSettings {
  std::string binary;
  std::vector<std::string> firmware_folders;  ///< besides the binary's own
  bool sandbox = true;                        ///< the binary can filter its own system calls
  QemuMachineType machine = QemuMachineType::kMicrovm;
  QemuAccelerator accelerator = QemuAccelerator::kTcg;
  MemorySize memory;
  unsigned cpu_count = 1;
  int vhost_user_fd = -1;  ///< a connected socket whose other end is the vsock device
  std::string name;        ///< shown in the list of processes
  std::string enclave_id;  ///< kNitroEnclave: module_id of attestation documents
  std::string image;       ///< kNitroEnclave: path of the EIF
  std::string kernel;      ///< the others: path of the kernel
  std::string ramdisk;     ///< the others: path of all ramdisks, one after the other
  std::string command_line;
};

/// The argument list, program first. A pure function. The guest's serial port is QEMU's stdin and stdout; a guest that
/// reboots ends QEMU with status 0.
[[nodiscard]] std::vector<std::string> qemu_arguments(const QemuSettings& settings);

}  // namespace nitro::proc
