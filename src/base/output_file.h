// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "nitro/fd.h"

namespace nitro {

/// A file that appears under its name only when it is complete. Until commit() the bytes are in a file without a name
/// in the same folder (O_TMPFILE), so that no signal and no crash, SIGKILL and power loss included, leaves half a file
/// or touches an older one. Where the file system has no O_TMPFILE a hidden name beside the target is used, and removed
/// on destruction; a program that a signal may end while it writes calls unlink_unfinished_output() in its handler. One
/// OutputFile at a time in that case. A character device, such as /dev/null for those who want the measurements only,
/// stays what it is: commit() writes the bytes to it.
class OutputFile {
 public:
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  /// A symbolic link is followed, also one whose target does not exist yet: the target is replaced or made.
  /// Errors: kFileOperation when the folder is missing or not writable, `path` is a folder, a FIFO or another file that
  /// cannot be replaced, or links lead in a circle.
  /// `mode` are the permissions of a new file, before the umask. An existing file's permissions are kept, and its owner
  /// and group where this user may give files to them; where not its group, the new one gets what everybody has.
  static Result<OutputFile> create(std::string path, unsigned mode = 0644);

  /// Open for reading and writing, position 0.
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }

  /// Makes the content durable (fsync) and gives it its name, replacing what stood there. Errors leave the old file as
  /// it was; a device may have got a part.
  Result<void> commit();

 private:
  // Of the file that is replaced.
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

/// Removes the hidden name of an OutputFile that is being written, if there is one. Async-signal-safe; after it the
/// process has to end.
void unlink_unfinished_output() noexcept;

/// An unnamed, private file for intermediate data; its space is freed when the Fd is closed, whatever ends the process.
/// Lies in $TMPDIR, else /var/tmp, else /tmp.
Result<Fd> make_scratch_file();

}  // namespace nitro
