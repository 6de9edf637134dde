// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/occupancy.h"

namespace nitro::proxy {

Result<std::shared_ptr<Occupancy>> Occupancy::create() {
  // The constructor is private: make_shared cannot reach it.
  std::shared_ptr<Occupancy> occupancy(new Occupancy());
  NITRO_TRY(occupancy->bell_, Bell::create());
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
  if (all_->waiting_.exchange(false)) all_->bell_.ring();
}

}  // namespace nitro::proxy
