// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/sandbox/file_access.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "nitro/fd.h"

namespace nitro::proc {
namespace {

// Newer than the kernel headers of Debian 12 (include/uapi/linux/landlock.h); the running kernel may have them.
constexpr std::uint64_t kTruncate = 1ULL << 14;            // since version 3
constexpr std::uint64_t kIoctlDevice = 1ULL << 15;         // since version 5
constexpr std::uint64_t kTcp = 1ULL << 0 | 1ULL << 1;      // bind and connect, since version 4
constexpr std::uint64_t kAbstractUnixSockets = 1ULL << 0;  // of other processes, since version 6

struct Ruleset {
  std::uint64_t files;
  std::uint64_t network;
  std::uint64_t scoped;
};

constexpr std::uint64_t kReading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
/// For reopening the log after its rotation, error reports, publishing and removing sockets, the lock file; and for
/// removing the folder of a local enclave with what host programs have put there.
constexpr std::uint64_t kInFolders = kReading | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                                     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                     LANDLOCK_ACCESS_FS_REMOVE_DIR;

/// Everything that a kernel with this version of Landlock can forbid.
Ruleset everything(long version) {
  Ruleset all{.files = LANDLOCK_ACCESS_FS_MAKE_SYM << 1, .network = 0, .scoped = 0};
  // The first version has the lowest bits, up to creating symbolic links.
  all.files -= 1;
  if (version >= 2) all.files |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) all.files |= kTruncate;
  if (version >= 4) all.network = kTcp;
  if (version >= 5) all.files |= kIoctlDevice;
  if (version >= 6) all.scoped = kAbstractUnixSockets;
  return all;
}

/// A kernel reads the part of the structure that it knows, and fails unless the rest is zero.
std::size_t size_for(long version) {
  if (version >= 6) return sizeof(Ruleset);
  return version >= 4 ? offsetof(Ruleset, scoped) : offsetof(Ruleset, network);
}

}  // namespace

int restrict_files(const std::vector<std::string>& folders) {
  // The C library has no wrappers for these.
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 0) return errno;
  const Ruleset all = everything(version);
  const Fd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &all, size_for(version), 0)));
  if (!ruleset) return errno;
  for (const std::string& path : folders) {
    const Fd folder(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder) {
      // Without one of the rules the process could not do its work: go on unrestricted instead.
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) return errno;
      continue;  // A missing or unreachable folder needs no access.
    }
    const landlock_path_beneath_attr rule{.allowed_access = kInFolders, .parent_fd = folder.get()};
    if (::syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) return errno;
  }
  return ::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) == 0 ? 0 : errno;
}

}  // namespace nitro::proc
