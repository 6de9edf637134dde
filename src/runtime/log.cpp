// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>
#include <string_view>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/text.h"
#include "src/base/utf8.h"

namespace nitro {
namespace {

/// Whoever may write to the folder may write the log; everybody may read it, as with the reference's log.
mode_t mode_for(const std::string& folder) {
  struct stat status {};
  const mode_t writers = ::stat(folder.c_str(), &status) == 0 ? status.st_mode & (S_IWGRP | S_IWOTH) : 0;
  return 0644 | writers;
}

Result<Fd> open_log(const std::string& folder, const std::string& path) {
  const mode_t mode = mode_for(folder);
  // Must not block: another user could create a FIFO of that name in a shared folder.
  NITRO_TRY(Fd fd, open_file(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, mode));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0)
    return fail_errno(ErrorCode::kFileOperation, fmt::format("looking at {}", quote(path)));
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::kFileOperation, fmt::format("{} is not a regular file", quote(path)));
  if (status.st_uid != ::geteuid()) return fd;
  struct stat parent {};
  // Use the folder's group if this user may set it; otherwise the file keeps the user's own group.
  if ((mode & S_IWGRP) != 0 && ::stat(folder.c_str(), &parent) == 0) [[maybe_unused]]
    const int ignored = ::fchown(fd.get(), static_cast<uid_t>(-1), parent.st_gid);
  if (::fchmod(fd.get(), mode) != 0)
    return fail_errno(ErrorCode::kFilePermissions, fmt::format("setting the permissions of {}", quote(path)));
  return fd;
}

/// Writes each record with one write(2) to a file opened with O_APPEND, so records of several processes do not mix.
/// Reopens the file when it has been moved away (log rotation).
class SharedFileSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  SharedFileSink(std::string folder, std::string path, Fd fd)
      : folder_(std::move(folder)), path_(std::move(path)), fd_(std::move(fd)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    struct stat by_name {};
    struct stat by_fd {};
    if (::stat(path_.c_str(), &by_name) != 0 || ::fstat(fd_.get(), &by_fd) != 0 || by_name.st_ino != by_fd.st_ino) {
      if (auto reopened = open_log(folder_, path_)) fd_ = std::move(*reopened);
    }
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    // A log that cannot be written must not stop an enclave.
    [[maybe_unused]] const ssize_t ignored = ::write(fd_.get(), line.data(), line.size());
  }
  void flush_() override {}

  std::string folder_;
  std::string path_;
  Fd fd_;
};

spdlog::level::level_enum level_from_environment(const std::string& otherwise) {
  const auto name = to_lower(environment_variable("RUST_LOG").value_or(otherwise));
  if (name == "trace") return spdlog::level::trace;
  if (name == "debug") return spdlog::level::debug;
  if (name == "warn") return spdlog::level::warn;
  if (name == "error") return spdlog::level::err;
  return spdlog::level::info;
}

/// The level, in the words that readers of these logs expect.
class LevelFlag final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    std::string_view name = "INFO";
    if (message.level == spdlog::level::trace) name = "TRACE";
    if (message.level == spdlog::level::debug) name = "DEBUG";
    if (message.level == spdlog::level::warn) name = "WARN";
    if (message.level >= spdlog::level::err) name = "ERROR";
    out.append(name.data(), name.data() + name.size());
  }
  [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<LevelFlag>(); }
};

/// The message on one line, without characters that could confuse a terminal: nobody can forge another record.
class OneLineFlag final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string line = escaped(std::string_view(message.payload.data(), message.payload.size()));
    out.append(line.data(), line.data() + line.size());
  }
  [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<OneLineFlag>();
  }
};

}  // namespace

Result<Log> Log::open(const std::string& folder) {
  const std::string path = folder + "/nitro_enclaves.log";
  NITRO_TRY(Fd fd, open_log(folder, path));
  auto logger =
      std::make_shared<spdlog::logger>("nitro", std::make_shared<SharedFileSink>(folder, path, std::move(fd)));
  logger->set_level(level_from_environment("info"));
  Log log(std::move(logger));
  log.set_id(fmt::format("nitro-cli:{}", ::getpid()));
  return log;
}

Log Log::to_stderr(const std::string& name, const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("nitro", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(level_from_environment(level));
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<LevelFlag>('*').add_flag<OneLineFlag>('&');
  formatter->set_pattern(fmt::format("[%Y-%m-%dT%H:%M:%SZ %* {}] %&", name));
  logger->set_formatter(std::move(formatter));
  return Log(std::move(logger));
}

Log Log::none() {
  return Log(std::make_shared<spdlog::logger>("nitro", std::make_shared<spdlog::sinks::null_sink_mt>()));
}

void Log::set_id(const std::string& id) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<LevelFlag>('*').add_flag<OneLineFlag>('&');
  formatter->set_pattern(fmt::format("[{}][%*][%Y-%m-%dT%H:%M:%S.%eZ][%s:%#] %&", id));
  logger_->set_formatter(std::move(formatter));
}

}  // namespace nitro
