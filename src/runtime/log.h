// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <string>

#include "nitro/result.h"

namespace nitro {

/// A log that appends to one file shared by all processes of this tool. A record is one line (see escaped() in utf8.h),
/// written in one write(2):
/// `[nitro-cli:PID][LEVEL][UTC time, RFC 3339 with milliseconds][file:line] message`.
/// Libraries log at debug level only; the program that decides logs once. Level: RUST_LOG (trace, debug, info, warn,
/// error), default info.
class Log {
 public:
  /// Opens (creates) `folder`/nitro_enclaves.log. If this user owns it, everybody may read it, and those who may write
  /// to the folder may write it. Errors: kFileOperation, kFilePermissions.
  static Result<Log> open(const std::string& folder);
  /// Writes to stderr, in the form of the AWS tool vsock-proxy: `[UTC time LEVEL name] message`. `level` (trace,
  /// debug, info, warn, error) counts where RUST_LOG is not set.
  static Log to_stderr(const std::string& name, const std::string& level);
  /// Discards everything; for tests, and for programs without a log folder.
  static Log none();

  /// The source of the records: "nitro-cli:PID", "enc-<slot>:PID".
  void set_id(const std::string& id);
  [[nodiscard]] spdlog::logger& operator*() const { return *logger_; }
  spdlog::logger* operator->() const { return logger_.get(); }

 private:
  explicit Log(std::shared_ptr<spdlog::logger> logger) : logger_(std::move(logger)) {}
  std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace nitro
