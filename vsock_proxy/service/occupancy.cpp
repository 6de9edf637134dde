// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/occupancy.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace nitro::proxy {

Result<std::shared_ptr<Occupancy>> Occupancy::create() {
  // The constructor is private: make_shared cannot reach it.
  std::shared_ptr<Occupancy> occupancy(new Occupancy());
  occupancy->bell_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!occupancy->bell_) return fail_errno(ErrorCode::kEpoll, "creating an event descriptor");
  return occupancy;
}

Occupancy::Place::Place(std::shared_ptr<Occupancy> all, std::shared_ptr<std::atomic<std::uint64_t>> of_route)
    : all_(std::move(all)), of_route_(std::move(of_route)) {
  ++all_->taken_;
  ++*of_route_;
}

Occupancy::Place::~Place() {
  --*of_route_;
  --all_->taken_;
  if (!all_->waiting_.exchange(false)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(all_->bell_.get(), &one, sizeof one);
}

void Occupancy::silence() {
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(bell_.get(), &rings, sizeof rings);
}

}  // namespace nitro::proxy
