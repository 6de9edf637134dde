// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nitro/result.h"
#include "nitro_device.h"
#include "temp_folder.h"

namespace nitro::testing {

/// For what asks whether to go on.
inline Result<void> go_on() {
  return {};
}

/// A made-up parent instance for one test: sets the stand-in's environment and reads its trace.
class Standin {
 public:
  explicit Standin(std::initializer_list<std::pair<const char*, const char*>> settings = {}) {
    const std::string name = "unit-" + std::to_string(::getpid());
    set("NITRO_DEVICE_TRACE", (folder_ / "trace").c_str());
    set("NITRO_DEVICE_NAME", name.c_str());
    for (const auto& [variable, value] : settings) set(variable, value);
    // A machine on which nothing has happened has a trace, too.
    write_file(folder_ / "trace", "");
    nitro_device_reset();
  }

  /// Lines of the trace from the `from`th on.
  [[nodiscard]] std::vector<std::string> trace(std::size_t from = 0) const {
    std::vector<std::string> lines;
    const std::string text = read_file(folder_ / "trace");
    for (std::size_t start = 0; start < text.size();) {
      const std::size_t end = text.find('\n', start);
      lines.push_back(text.substr(start, end - start));
      start = end + 1;
    }
    lines.erase(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(std::min(from, lines.size())));
    return lines;
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return folder_ / name; }

 private:
  void set(const char* variable, const char* value) {
    environment_.push_back(std::make_unique<ScopedEnvironment>(variable, value));
  }

  TempFolder folder_;
  std::vector<std::unique_ptr<ScopedEnvironment>> environment_;
};

}  // namespace nitro::testing
