// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nitro::image {

/// What an image was made for. Indexes ("platform" of a descriptor) and configurations say it with the same keys.
struct Platform {
  std::string os;             ///< "linux"; empty where it is not said, which means the same
  std::string architecture;   ///< "amd64", "arm64"
  std::string variant;        ///< "v3": the least CPU of that architecture; empty: any
  bool has_features = false;  ///< whether it demands features of the operating system ("os.features")

  /// "linux/arm64/v9".
  [[nodiscard]] std::string text() const;
};

/// The platform that `object` tells of; nothing when it names neither a system nor an architecture.
[[nodiscard]] std::optional<Platform> platform_in(const nlohmann::ordered_json& object);

/// How far an image for `platform` is from the one that an enclave of `architecture` ("amd64", "arm64") should have:
/// 0 is an image for every CPU, without a variant or with the base one (amd64/v1, arm64/v8); a higher variant is
/// farther, and farthest is one whose name is not understood. Nothing when the image is not for that enclave at all.
///
/// Engines and skopeo ask for the base variant, too, and so the same image is taken by every transport. Where there is
/// none they give up. The lowest that there is comes next here: the CPU is known only where the enclave will run, the
/// lowest runs on the most, and a refusal would leave no way to build the image at all.
///
/// The version of the operating system ("os.version") tells nothing about Linux. No feature of it is known to be there,
/// so an image that demands one is not for an enclave.
[[nodiscard]] std::optional<unsigned> distance(const Platform& platform, std::string_view architecture);

/// Which of `platforms` are at the least distance, in their order; none when no image is for that enclave.
[[nodiscard]] std::vector<std::size_t> nearest(std::span<const Platform> platforms, std::string_view architecture);

}  // namespace nitro::image
