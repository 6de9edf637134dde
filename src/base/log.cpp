// SPDX-License-Identifier: Apache-2.0
#include "nitro/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/null_sink.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <string_view>

#include "nitro/bytes.h"
#include "nitro/fd.h"
#include "nitro/text.h"

namespace nitro {
namespace {

Result<Fd> open_log(const std::string& path) {
  NITRO_TRY(Fd fd, open_file(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0766));
  struct stat status {};
  if (::fstat(fd.get(), &status) == 0 && status.st_uid == ::geteuid() && ::fchmod(fd.get(), 0766) != 0) {
    return fail_errno(ErrorCode::kFilePermissions, fmt::format("setting the permissions of {}", quote(path)));
  }
  return fd;
}

/// One write(2) per record to a file opened with O_APPEND: records of several processes do not mix. The file is opened
/// anew when it has been moved away (log rotation).
class SharedFileSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  SharedFileSink(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    struct stat by_name {};
    struct stat by_fd {};
    if (::stat(path_.c_str(), &by_name) != 0 || ::fstat(fd_.get(), &by_fd) != 0 || by_name.st_ino != by_fd.st_ino) {
      if (auto reopened = open_log(path_)) fd_ = std::move(*reopened);
    }
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    // A log that cannot be written must not stop an enclave.
    [[maybe_unused]] const ssize_t ignored = ::write(fd_.get(), line.data(), line.size());
  }
  void flush_() override {}

  std::string path_;
  Fd fd_;
};

spdlog::level::level_enum level_from_environment() {
  const char* value = std::getenv("RUST_LOG");
  const auto name = to_lower(value != nullptr ? value : "info");
  if (name == "trace") return spdlog::level::trace;
  if (name == "debug") return spdlog::level::debug;
  if (name == "warn") return spdlog::level::warn;
  if (name == "error") return spdlog::level::err;
  return spdlog::level::info;
}

/// The level in the words that readers of these logs look for.
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

}  // namespace

Result<Log> Log::open(const std::string& folder) {
  const std::string path = folder + "/nitro_enclaves.log";
  NITRO_TRY(Fd fd, open_log(path));
  auto logger = std::make_shared<spdlog::logger>("nitro", std::make_shared<SharedFileSink>(path, std::move(fd)));
  logger->set_level(level_from_environment());
  Log log(std::move(logger));
  log.set_id(fmt::format("nitro-cli:{}", ::getpid()));
  return log;
}

Log Log::none() {
  return Log(std::make_shared<spdlog::logger>("nitro", std::make_shared<spdlog::sinks::null_sink_mt>()));
}

void Log::set_id(const std::string& id) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<LevelFlag>('*').set_pattern(fmt::format("[{}][%*][%Y-%m-%dT%H:%M:%S.%eZ][%s:%#] %v", id));
  logger_->set_formatter(std::move(formatter));
}

}  // namespace nitro
