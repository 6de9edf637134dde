// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu_user.h"

#include <sys/stat.h>
#include <unistd.h>

namespace nitro::proc {

std::optional<UserIds> qemu_user(std::uint64_t slot_uid, const char* device) {
  if (::geteuid() != 0) return std::nullopt;
  const uid_t number = kFirstQemuUid + static_cast<uid_t>(slot_uid % kQemuUidCount);
  UserIds user{.uid = number, .gid = number, .groups = {}};
  if (device == nullptr) return user;
  struct stat status {};
  if (::stat(device, &status) != 0) return std::nullopt;
  constexpr mode_t kByOthers = S_IROTH | S_IWOTH;
  constexpr mode_t kByGroup = S_IRGRP | S_IWGRP;
  if ((status.st_mode & kByOthers) == kByOthers) return user;
  // Root's own group can open more than the device.
  if ((status.st_mode & kByGroup) != kByGroup || status.st_gid == 0) return std::nullopt;
  user.groups.push_back(status.st_gid);
  return user;
}

}  // namespace nitro::proc
