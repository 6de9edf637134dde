// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/claim.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string>

#include "nitro/bytes.h"

namespace nitro::proc {

Result<Fd> claim(std::string_view kind, std::string_view value) {
  // A socket in the abstract namespace (unix(7)): the kernel gives it to one process in one step and takes it back when
  // that ends. Its address has room for 107 bytes, so a long value is represented by its beginning and a hash.
  const std::string text = fmt::format("nitro_enclaves/{}/{:016x}/{}", kind.substr(0, 8),
                                       std::hash<std::string_view>{}(value), value.substr(0, 60));
  sockaddr_un address{};
  static_assert(sizeof address.sun_path > 1 + 15 + 8 + 1 + 16 + 1 + 60, "the longest text fits");
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, text.data(), text.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(ErrorCode::kSocket, "creating a socket");
  // bind takes every address family through one pointer type (bind(2)).
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0) return fd;
  if (errno == EADDRINUSE) return Fd();
  return fail_errno(ErrorCode::kSocket, fmt::format("taking the {} {}", kind, quote(value)));
}

}  // namespace nitro::proc
