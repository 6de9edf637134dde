// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/relay/bell.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace nitro::proxy {

Result<Bell> Bell::create() {
  Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return fail_errno(ErrorCode::kEpoll, "creating an event descriptor");
  return Bell(std::move(fd));
}

void Bell::ring() const {
  const std::uint64_t one = 1;
  // Fails only if the counter is full; then the bell rings anyway.
  [[maybe_unused]] const ssize_t ignored = ::write(fd_.get(), &one, sizeof one);
}

void Bell::silence() const {
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(fd_.get(), &rings, sizeof rings);
}

}  // namespace nitro::proxy
