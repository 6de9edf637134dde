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
  kNitroEnclave,  ///< the image as is; has the Nitro Security Module
};

enum class QemuAccelerator { kKvm, kTcg };

/// Everything that determines QEMU's command line. Descriptors are numbers in the child, which are the same as in this
/// process.
struct QemuSettings {
  std::string binary;
  std::vector<std::string> firmware_folders;  ///< in addition to the binary's own
  bool sandbox = true;                        ///< the binary can filter its own system calls
  QemuMachineType machine = QemuMachineType::kMicrovm;
  QemuAccelerator accelerator = QemuAccelerator::kTcg;
  MemorySize memory;
  unsigned cpu_count = 1;
  int vhost_user_fd = -1;  ///< a connected socket whose other end is the vsock device
  std::string name;        ///< shown in the list of processes
  std::string enclave_id;  ///< kNitroEnclave: module_id of attestation documents
  std::string image;       ///< kNitroEnclave: path of the EIF
  std::string kernel;      ///< other machines: path of the kernel
  std::string ramdisk;     ///< other machines: path of all ramdisks, concatenated
  std::string command_line;
};

/// Returns the argument list, starting with the program. A pure function. The guest's serial port is QEMU's stdin and
/// stdout; when the guest reboots, QEMU exits with status 0.
[[nodiscard]] std::vector<std::string> qemu_arguments(const QemuSettings& settings);

}  // namespace nitro::proc
