// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "bootstrap/allocator/reservation.h"
#include "nitro/fd.h"

namespace nitro::allocator {

/// The file that keeps the settings from before the first reservation, so that the machine can have them back. It is in
/// a folder of its own in /run, so a restart of the machine removes it together with the reservation.
class Record {
 public:
  /// Creates `folder` if needed and waits until no other allocator uses it; the lock lasts as long as this object.
  /// Errors: kFileOperation.
  static Result<Record> open(const std::string& folder);

  /// Nothing if there is no file. Errors: kFileOperation, also for a file that this class has not written.
  [[nodiscard]] Result<std::optional<Settings>> load() const;
  [[nodiscard]] Result<void> save(const Settings& settings) const;
  [[nodiscard]] Result<void> remove() const;

 private:
  Record(std::string path, Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  Fd lock_;
};

}  // namespace nitro::allocator
