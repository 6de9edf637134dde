// SPDX-License-Identifier: Apache-2.0
#include "src/base/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/environment.h"

namespace nitro {
namespace {

// The name that a signal handler may have to remove, on file systems that cannot create unnamed files. A handler can
// only reach static storage.
std::atomic<const char*> g_unfinished_name = nullptr;
static_assert(std::atomic<const char*>::is_always_lock_free, "a signal handler may use it");

/// Defers signals while a name exists that they would leave behind.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &old_);
  }
  ~SignalsHeldBack() { ::pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;

 private:
  sigset_t old_{};
};

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

/// Returns an unused name beside `path`.
std::string hidden_name_beside(const std::string& path) {
  const std::string file = std::filesystem::path(path).filename().string();
  return fmt::format("{}/.{}.{:08x}", folder_of(path), file.substr(0, 200), std::random_device{}());
}

/// Returns where open(2) for writing would create the file: `path` with the symbolic links at its end followed, whether
/// or not they lead to a file. Errors: kFileOperation for circular links.
Result<std::string> behind_links(const std::string& path) {
  constexpr int kMaxLinks = 40;  // the kernel's limit, path_resolution(7)
  std::filesystem::path place = path;
  for (int i = 0; i <= kMaxLinks; ++i) {
    std::error_code no_link;
    const auto target = std::filesystem::read_symlink(place, no_link);
    if (no_link) return place.string();
    place = place.parent_path() / target;
  }
  return fail_errno(ErrorCode::kFileOperation, fmt::format("the output file {}", quote(path)), ELOOP);
}

bool lacks_unnamed_files(int open_errno) {
  // Kernels and file systems that do not know O_TMPFILE at all return EISDIR (open(2)).
  return open_errno == EOPNOTSUPP || open_errno == EISDIR || open_errno == ENOENT || open_errno == EINVAL;
}

}  // namespace

void unlink_unfinished_output() noexcept {
  if (const char* name = g_unfinished_name.exchange(nullptr)) ::unlink(name);
}

OutputFile::OutputFile(std::string path, Fd fd, std::string temporary, std::optional<Access> old)
    : path_(std::move(path)), fd_(std::move(fd)), temporary_(std::move(temporary)), old_(old) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::move(other.fd_)),
      device_(std::move(other.device_)),
      temporary_(std::move(other.temporary_)),
      old_(other.old_) {
  other.temporary_.clear();
  if (!temporary_.empty()) g_unfinished_name = temporary_.c_str();
}

OutputFile::~OutputFile() {
  if (temporary_.empty()) return;
  g_unfinished_name = nullptr;
  ::unlink(temporary_.c_str());
}

Result<OutputFile> OutputFile::create(std::string path, unsigned mode) {
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (!exists && (errno != ENOENT || path.empty())) {
    return fail_errno(ErrorCode::kFileOperation, fmt::format("the output file {}", quote(path)));
  }
  if (exists && S_ISDIR(status.st_mode)) {
    return fail(ErrorCode::kFileOperation, fmt::format("{} is a folder; name a file", quote(path)));
  }
  if (exists && S_ISCHR(status.st_mode)) {
    // The writer seeks in the file, which a device does not allow.
    NITRO_TRY(Fd device, open_file(path, O_WRONLY | O_NOCTTY));
    NITRO_TRY(Fd scratch, make_scratch_file());
    OutputFile file(std::move(path), std::move(scratch), {}, std::nullopt);
    file.device_ = std::move(device);
    return file;
  }
  if (exists && !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kFileOperation,
                fmt::format("{} exists and is not a regular file; name another file", quote(path)));
  }
  // Replaces or creates the target of a symbolic link, not the link.
  NITRO_TRY(path, behind_links(path));
  std::optional<Access> old;
  if (exists) {
    mode = status.st_mode & 07777;
    old = Access{.user = status.st_uid, .group = status.st_gid, .mode = mode};
    if (::access(path.c_str(), W_OK) != 0) {
      return fail_errno(ErrorCode::kFileOperation, fmt::format("{} may not be replaced", quote(path)));
    }
  }
  const std::string folder = folder_of(path);
  if (::access(folder.c_str(), F_OK) != 0) {
    return fail_errno(ErrorCode::kFileOperation, fmt::format("the folder {} of the output file", quote(folder)));
  }
  Fd unnamed(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
  if (unnamed) return OutputFile(std::move(path), std::move(unnamed), {}, old);
  if (!lacks_unnamed_files(errno)) {
    return fail_errno(ErrorCode::kFileOperation, fmt::format("creating a file in {}", quote(folder)));
  }
  std::string temporary = hidden_name_beside(path);
  const SignalsHeldBack held_back;
  Fd named(::open(temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode));
  if (!named) return fail_errno(ErrorCode::kFileOperation, fmt::format("creating {}", quote(temporary)));
  OutputFile file(std::move(path), std::move(named), std::move(temporary), old);
  g_unfinished_name = file.temporary_.c_str();
  return file;
}

Result<void> OutputFile::take_over_access() {
  if (!old_) return {};
  mode_t mode = old_->mode;
  // Only root can give files to other users; everybody can give them to a group of which they are a member (chown(2)).
  const bool kept = ::fchown(fd_.get(), old_->user, old_->group) == 0 ||
                    ::fchown(fd_.get(), static_cast<uid_t>(-1), old_->group) == 0;
  if (!kept) mode = (mode & ~mode_t{S_IRWXG}) | (mode & S_IRWXO) << 3;
  if (::fchmod(fd_.get(), mode) == 0) return {};
  return fail_errno(ErrorCode::kFileOperation, fmt::format("setting the permissions of {}", quote(path_)));
}

Result<void> OutputFile::write_to_device() {
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  if (::lseek(fd_.get(), 0, SEEK_SET) != 0) return fail_errno(ErrorCode::kFileOperation, "reading the scratch file");
  while (true) {
    NITRO_TRY(const std::size_t size, read_full(fd_.get(), buffer));
    if (size == 0) return {};
    auto written = write_all(device_.get(), std::span(buffer).first(size));
    if (!written) return fail_within(fmt::format("writing to {}", quote(path_)), std::move(written).error());
  }
}

Result<void> OutputFile::commit() {
  if (device_) return write_to_device();
  const auto failure = [this](std::string_view step) {
    return fail_errno(ErrorCode::kFileOperation, fmt::format("{} {}", step, quote(path_)));
  };
  NITRO_CHECK(take_over_access());
  if (::fsync(fd_.get()) != 0) return failure("writing out");
  const SignalsHeldBack held_back;
  std::string name = temporary_;
  if (name.empty()) {
    // An unnamed file gets its name through /proc/self/fd (open(2), O_TMPFILE); linkat does not replace an existing
    // file, hence the hidden name and the rename in that case.
    const std::string self = fmt::format("/proc/self/fd/{}", fd_.get());
    if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      if (errno != EEXIST) return failure("naming");
      name = hidden_name_beside(path_);
      if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0) return failure("naming");
    }
  }
  if (!name.empty() && ::rename(name.c_str(), path_.c_str()) != 0) {
    const int rename_errno = errno;
    ::unlink(name.c_str());
    errno = rename_errno;
    return failure("replacing");
  }
  if (!temporary_.empty()) {
    g_unfinished_name = nullptr;
    temporary_.clear();
  }
  // The name is durable only once the folder is synced. Not every file system can do that, and the file is complete
  // either way.
  const Fd folder(::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder) ::fsync(folder.get());
  return {};
}

Result<Fd> make_scratch_file() {
  int last_errno = ENOENT;
  std::vector<std::string> folders{"/var/tmp", "/tmp"};
  if (auto configured = environment_variable("TMPDIR")) folders.insert(folders.begin(), *std::move(configured));
  for (const std::string& folder : folders) {
    Fd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600));
    if (fd) return fd;
    last_errno = errno;
    if (!lacks_unnamed_files(errno)) continue;
    std::string name = folder + "/nitro-XXXXXX";
    const SignalsHeldBack held_back;
    Fd named(::mkostemp(name.data(), O_CLOEXEC));
    if (named) {
      ::unlink(name.c_str());
      return named;
    }
    last_errno = errno;
  }
  return fail_errno(ErrorCode::kFileOperation, "creating a scratch file in $TMPDIR, /var/tmp or /tmp", last_errno);
}

}  // namespace nitro
