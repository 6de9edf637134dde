// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// An exclusive right in a sockets folder, held by one process at a time: the name or the CID of an enclave, or the
/// right to change which sockets are there.
///
/// It is a lock on a part of the folder's file ".lock" (an open file description lock, fcntl(2)), so the kernel
/// releases it however its holder ends, and a forked process that keeps the descriptor keeps the lock. Only those who
/// may write to the folder may open the file, so no other user can hold anything. The alternative, a socket in the
/// abstract namespace, could be bound by every user of the machine. The file exists while anything is held: the process
/// that releases the last lock removes it, and remove_unused_lock_file() removes what a killed process leaves.
///
/// Layout of the file, whose bytes are only locked and never written: 0 is the publication lock, names are at 1 + a
/// 61-bit hash, CIDs at 2^62 + CID.
class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(FolderLock&& other) noexcept
      : folder_(std::exchange(other.folder_, std::nullopt)), file_(std::move(other.file_)) {}
  FolderLock& operator=(FolderLock&& other) noexcept;
  ~FolderLock() { give_back(); }

  /// Whether the lock holds anything.
  explicit operator bool() const { return folder_.has_value(); }
  /// The descriptor that holds the lock.
  [[nodiscard]] int fd() const { return file_.get(); }
  void give_back();
  /// After a fork: closes this process's descriptor and leaves the lock to the other process.
  void leave_to_other_process();

 private:
  friend Result<FolderLock> take_part(const SocketsFolder& folder, std::int64_t part);
  FolderLock(SocketsFolder folder, Fd file) : folder_(std::move(folder)), file_(std::move(file)) {}

  std::optional<SocketsFolder> folder_;
  Fd file_;
};

/// These return an empty lock when another process holds the right. Errors: kSocket when the folder's lock file cannot
/// be used.
Result<FolderLock> hold_name(const SocketsFolder& folder, std::string_view name);
Result<FolderLock> hold_cid(const SocketsFolder& folder, std::uint32_t cid);
/// Takes the right to publish and remove sockets. Waits at most `patience`.
Result<FolderLock> take_publication_lock(const SocketsFolder& folder, std::chrono::milliseconds patience);

/// Removes the lock file when nobody holds anything. A file that cannot be removed does no harm.
void remove_unused_lock_file(const SocketsFolder& folder);

}  // namespace nitro::proc
