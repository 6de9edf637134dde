// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/region.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/http/instance_metadata.h"

namespace nitro::proxy {
namespace {

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;

/// A region becomes part of a host name.
bool is_region(const std::string& text) {
  constexpr std::size_t kLongest = 32;
  return !text.empty() && text.size() <= kLongest && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

}  // namespace

Result<std::string> instance_region() {
  if (const auto region = environment_variable("AWS_REGION")) {
    if (!is_region(*region)) return fail(kCode, fmt::format("AWS_REGION is {}, which is no region", quote(*region)));
    return *region;
  }
  const auto ask = []() -> Result<std::string> {
    NITRO_TRY(const auto metadata,
              http::InstanceMetadata::open(environment_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or(""),
                                           environment_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").value_or(""),
                                           http::send, kCode));
    NITRO_TRY(const auto region, metadata.get("/latest/meta-data/placement/region"));
    if (!is_region(region.text())) return fail(kCode, fmt::format("its answer {} is no region", quote(region.text())));
    return region.text();
  };
  auto region = ask();
  if (!region) {
    return fail_within("{region} needs the metadata service of an EC2 instance, or AWS_REGION in the environment",
                       std::move(region).error());
  }
  return region;
}

}  // namespace nitro::proxy
