// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nitro::image {

/// The platform of an image. Indexes ("platform" of a descriptor) and configurations use the same keys.
struct Platform {
  std::string os;             ///< "linux"; empty if not stated, which means the same
  std::string architecture;   ///< "amd64", "arm64"
  std::string variant;        ///< "v3": the minimum CPU of that architecture; empty: any
  bool has_features = false;  ///< whether it requires features of the operating system ("os.features")

  /// Returns "linux/arm64/v9".
  [[nodiscard]] std::string text() const;
};

/// Returns the platform that `object` states, or nullopt if it names neither a system nor an architecture.
[[nodiscard]] std::optional<Platform> platform_in(const nlohmann::ordered_json& object);

/// Returns how far an image for `platform` is from the ideal one for an enclave of `architecture` ("amd64", "arm64"): 0
/// is an image for every CPU, without a variant or with the base one (amd64/v1, arm64/v8); higher variants are farther,
/// and an unknown variant is farthest. Returns nullopt if the image is not for that enclave at all.
///
/// Engines and skopeo also prefer the base variant, so every transport takes the same image. If there is none, they
/// give up. Here the lowest existing variant comes next: the CPU is known only where the enclave runs, the lowest
/// variant runs on most CPUs, and a refusal would leave no way to build the image at all.
///
/// The version of the operating system ("os.version") means nothing for Linux. Its features cannot be relied on, so an
/// image that requires one is not for an enclave.
[[nodiscard]] std::optional<unsigned> distance(const Platform& platform, std::string_view architecture);

/// Returns which of `platforms` are at the smallest distance, in their order; empty if no image is for that enclave.
[[nodiscard]] std::vector<std::size_t> nearest(std::span<const Platform> platforms, std::string_view architecture);

}  // namespace nitro::image
