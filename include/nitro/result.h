// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

#include "nitro/error.h"

namespace nitro {

/// A value, or the error that explains why there is none. The one error rule of this code base: whatever the system, an
/// input or a peer can cause is returned as a Result; exceptions mean a bug or exhausted memory and are caught once, in
/// main(). A failure changes nothing unless the function's comment says so.
template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
  using Base = tl::expected<T, Error>;

 public:
  using Base::Base;
  Result(Base base) : Base(std::move(base)) {}
};

using Failure = tl::unexpected<Error>;

/// A failure without an errno.
[[nodiscard]] inline Failure fail(ErrorCode code, std::string message) {
  return Failure(Error(code, std::move(message)));
}

/// A failed system call: "what: strerror(errno)", plus advice for exceeded limits. Call it before anything can change
/// errno.
[[nodiscard]] Failure fail_errno(ErrorCode code, std::string_view what, int system_errno = errno);

/// Returns `error` with the caller's step prefixed.
[[nodiscard]] inline Failure fail_within(std::string_view step, Error error) {
  return Failure(std::move(error).within(step));
}

}  // namespace nitro

#define NITRO_CONCAT_INNER(a, b) a##b
#define NITRO_CONCAT(a, b) NITRO_CONCAT_INNER(a, b)
#define NITRO_TRY_INNER(result, declaration, expression)           \
  auto result = (expression);                                      \
  if (!result) return ::nitro::Failure(std::move(result).error()); \
  declaration = std::move(*result)

/// NITRO_TRY(auto fd, open_file(path)); declares `fd`, or returns the failure from the enclosing function.
#define NITRO_TRY(declaration, expression) NITRO_TRY_INNER(NITRO_CONCAT(result_, __LINE__), declaration, expression)

/// NITRO_CHECK(write_all(fd, bytes)); for results whose value is not needed.
#define NITRO_CHECK(expression) \
  if (auto result = (expression); !result) return ::nitro::Failure(std::move(result).error())
