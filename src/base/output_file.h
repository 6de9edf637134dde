// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "nitro/fd.h"

namespace nitro {

/// A file that appears under its name only when it is complete. Until commit() the bytes are in an unnamed file in the
/// same folder (O_TMPFILE), so that no signal or crash, not even SIGKILL or a power loss, leaves a partial file or
/// damages an older one. On file systems without O_TMPFILE a hidden name beside the target is used and removed on
/// destruction; there, a program that a signal may end must call unlink_unfinished_output() in its handler, and only
/// one OutputFile may exist at a time. A character device, such as /dev/null for users who only want the measurements,
/// is kept: commit() writes the bytes to it.
class OutputFile {
 public:
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  /// Follows a symbolic link, even if its target does not exist yet: the target is replaced or created. `mode`: the
  /// permissions of a new file, before the umask. An existing file's permissions are kept, as are its owner and group
  /// where this user may set them; if the group cannot be kept, the new group gets the permissions of others. Errors:
  /// kFileOperation when the folder is missing or not writable, `path` is a folder, a FIFO or another file that cannot
  /// be replaced, or links are circular.
  static Result<OutputFile> create(std::string path, unsigned mode = 0644);

  /// Open for reading and writing, position 0.
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }

  /// Makes the content durable (fsync) and gives it its name, replacing an existing file. On errors the old file is
  /// unchanged; a device may have received a part.
  Result<void> commit();

 private:
  // Of the file being replaced.
  struct Access {
    uid_t user;
    gid_t group;
    mode_t mode;
  };
  OutputFile(std::string path, Fd fd, std::string temporary, std::optional<Access> old);
  Result<void> take_over_access();
  Result<void> write_to_device();

  std::string path_;
  Fd fd_;
  Fd device_;              // invalid when the file gets a name
  std::string temporary_;  // empty while the file has no name
  std::optional<Access> old_;
};

/// Removes the hidden name of an OutputFile that is being written, if there is one. Async-signal-safe; the process must
/// end afterwards.
void unlink_unfinished_output() noexcept;

/// Creates an unnamed, private file for intermediate data, in $TMPDIR, else /var/tmp, else /tmp; its space is freed
/// when the Fd is closed, however the process ends.
Result<Fd> make_scratch_file();

}  // namespace nitro
