// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/error_report.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/version.h"

namespace nitro {
namespace {

std::string backtrace_of(const Error& error, std::string_view action) {
  std::string text = fmt::format("  Action: {}\n  Steps:\n", action);
  std::string_view rest = error.message();
  // Each layer prefixes its step with ": ". Quoted values rarely contain a colon followed by a space, so splitting
  // there reads well enough.
  for (std::size_t end = rest.find(": "); end != std::string_view::npos; end = rest.find(": ")) {
    text += fmt::format("    {}\n", rest.substr(0, end));
    rest.remove_prefix(end + 2);
  }
  text += fmt::format("    {}\n", rest);
  if (error.system_errno() != 0) text += fmt::format("  System error: {}\n", error.system_errno());
  text += fmt::format("  Version: {}\n", kVersion);
  return text;
}

std::optional<std::string> write_backtrace(const std::string& folder, const std::string& text) {
  if (folder.empty()) return std::nullopt;
  const auto now = std::chrono::system_clock::now();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds).count();
  std::string path = fmt::format("{}/err{:%Y-%m-%dT%H:%M:%S}.{:09}+00:00.log", folder,
                                 fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)), nanoseconds);
  const auto fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (!fd || !write_all(fd->get(), as_bytes(text))) return std::nullopt;
  return path;
}

}  // namespace

std::string report(const Error& error, std::string_view action, const std::string& logs_folder) {
  const ErrorDescription& description = describe(error.code());
  const std::string backtrace = backtrace_of(error, action);
  const auto path = write_backtrace(logs_folder, backtrace);
  std::string text =
      fmt::format("[ {} ] {}: {}.\n{}\n\nMore about this error: nitro-cli explain --error-code {}\n", tag(error.code()),
                  description.name, error.message(), description.remedy, tag(error.code()));
  if (environment_variable("BACKTRACE") == "1") text += fmt::format("\nBacktrace:\n{}", backtrace);
  if (path) text += fmt::format("The steps that led to it: {}\n", quote(*path));
  return text;
}

}  // namespace nitro
