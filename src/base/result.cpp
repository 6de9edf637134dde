// SPDX-License-Identifier: Apache-2.0
#include "nitro/result.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace nitro {

Error Error::within(std::string_view step) && {
  message_ = fmt::format("{}: {}", step, message_);
  return std::move(*this);
}

Error Error::as(ErrorCode code) && {
  code_ = code;
  return std::move(*this);
}

Failure fail_errno(ErrorCode code, std::string_view what, int system_errno) {
  const char* remedy = "";
  if (system_errno == EMFILE) remedy = "; raise this process's limit, for instance with `ulimit -n 4096`";
  if (system_errno == ENFILE) remedy = "; raise the machine's limit, /proc/sys/fs/file-max";
  return Failure(
      Error(code, fmt::format("{}: {}{}", what, std::generic_category().message(system_errno), remedy), system_errno));
}

}  // namespace nitro
