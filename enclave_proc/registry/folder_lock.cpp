// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/registry/folder_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <thread>

#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

constexpr const char* kFileName = ".lock";
constexpr std::int64_t kPublication = 0;
constexpr std::int64_t kFirstName = 1;
constexpr std::int64_t kFirstCid = std::int64_t{1} << 62;
constexpr unsigned kNameBits = 61;

/// For operations that take another process microseconds: creating the file, or removing it.
constexpr std::chrono::milliseconds kShortPause(1);
constexpr int kMostShortPauses = 200;

/// Pause between two attempts to take the publication lock.
constexpr std::chrono::milliseconds kPublicationPause(5);

// fcntl is variadic; the third argument of these commands is a struct flock with l_pid 0 (fcntl(2)).
struct flock part_lock(std::int64_t start, std::int64_t length) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

/// The whole file, whatever its length.
struct flock whole_lock() {
  return part_lock(0, 0);
}

bool try_lock(int file, struct flock lock) {
  return ::fcntl(file, F_OFD_SETLK, &lock) == 0;
}

/// Whether the holder that conflicts with `wanted` has locked the whole file, as it does before removing it, or has
/// gone meanwhile.
bool passes_soon(int file, struct flock wanted) {
  if (::fcntl(file, F_OFD_GETLK, &wanted) != 0) return false;
  return wanted.l_type == F_UNLCK || (wanted.l_start == 0 && wanted.l_len == 0);
}

Failure unusable(const SocketsFolder& folder, int error) {
  return fail_errno(ErrorCode::kSocket, fmt::format("using the lock file {}", quote(folder.path_of(kFileName))), error);
}

/// Whether the folder's lock file is still this one.
bool is_current(const SocketsFolder& folder, int file) {
  struct stat by_fd {};
  struct stat by_name {};
  return ::fstat(file, &by_fd) == 0 && ::fstatat(folder.fd(), kFileName, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
         by_fd.st_dev == by_name.st_dev && by_fd.st_ino == by_name.st_ino;
}

Fd open_existing(const SocketsFolder& folder) {
  // O_NONBLOCK: a FIFO of that name must not block us.
  return Fd(::openat(folder.fd(), kFileName, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
}

/// Creates the file for those who may write to the folder. Returns an invalid Fd with errno EEXIST if another process
/// was faster.
Fd create(const SocketsFolder& folder) {
  mode_t mode = 0600;
  if ((folder.writers() & S_IWGRP) != 0) mode |= S_IRGRP | S_IWGRP;
  if ((folder.writers() & S_IWOTH) != 0) mode |= S_IROTH | S_IWOTH;
  Fd file(::openat(folder.fd(), kFileName, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return file;
  // The creator is not always a member of the folder's group; then the file has a different group, which gets no
  // access.
  if (::fchown(file.get(), static_cast<uid_t>(-1), folder.group()) != 0) mode &= ~mode_t{S_IRGRP | S_IWGRP};
  [[maybe_unused]] const int ignored = ::fchmod(file.get(), mode);
  return file;
}

Result<Fd> open_lock_file(const SocketsFolder& folder) {
  for (int pauses = 0;; ++pauses) {
    Fd file = open_existing(folder);
    if (!file && errno == ENOENT) file = create(folder);
    if (file) {
      struct stat status {};
      if (::fstat(file.get(), &status) != 0) return unusable(folder, errno);
      if (!S_ISREG(status.st_mode)) return unusable(folder, EINVAL);
      return file;
    }
    // Another process has just created the file and is about to set its permissions.
    const bool passing = errno == EEXIST || (errno == EACCES && folder.writable());
    if (!passing || pauses == kMostShortPauses) return unusable(folder, errno);
    std::this_thread::sleep_for(kShortPause);
  }
}

}  // namespace

/// Locks one byte of the file.
Result<FolderLock> take_part(const SocketsFolder& folder, std::int64_t part) {
  for (int pauses = 0; pauses < kMostShortPauses;) {
    NITRO_TRY(Fd file, open_lock_file(folder));
    const struct flock wanted = part_lock(part, 1);
    if (try_lock(file.get(), wanted)) {
      if (is_current(folder, file.get())) return FolderLock(folder, std::move(file));
      // The file was removed between opening and locking. Try again with the new one.
      continue;
    }
    if (errno != EAGAIN && errno != EACCES) return unusable(folder, errno);
    if (!passes_soon(file.get(), wanted)) return FolderLock();
    std::this_thread::sleep_for(kShortPause);
    ++pauses;
  }
  return unusable(folder, ETIMEDOUT);
}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  folder_ = std::exchange(other.folder_, std::nullopt);
  file_ = std::move(other.file_);
  return *this;
}

void FolderLock::give_back() {
  if (!folder_) return;
  // Releases the own part first: if two processes released at once and both tried to lock the whole file, each would
  // find the other's part.
  struct flock nothing = whole_lock();
  nothing.l_type = F_UNLCK;
  try_lock(file_.get(), nothing);
  if (try_lock(file_.get(), whole_lock()) && is_current(*folder_, file_.get())) ::unlinkat(folder_->fd(), kFileName, 0);
  leave_to_other_process();
}

void FolderLock::leave_to_other_process() {
  folder_.reset();
  file_.reset();
}

Result<FolderLock> hold_name(const SocketsFolder& folder, std::string_view name) {
  // Two names have the same hash with a probability of 2^-61; then a free name would seem to be taken.
  const auto hash = static_cast<std::int64_t>(std::hash<std::string_view>{}(name) >> (64 - kNameBits));
  return take_part(folder, kFirstName + hash);
}

Result<FolderLock> hold_cid(const SocketsFolder& folder, std::uint32_t cid) {
  return take_part(folder, kFirstCid + cid);
}

Result<FolderLock> take_publication_lock(const SocketsFolder& folder, std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (true) {
    auto lock = take_part(folder, kPublication);
    if (!lock || *lock || std::chrono::steady_clock::now() >= end) return lock;
    std::this_thread::sleep_for(kPublicationPause);
  }
}

void remove_unused_lock_file(const SocketsFolder& folder) {
  const Fd file = open_existing(folder);
  if (file && try_lock(file.get(), whole_lock()) && is_current(folder, file.get()))
    ::unlinkat(folder.fd(), kFileName, 0);
}

}  // namespace nitro::proc
