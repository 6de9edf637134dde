// SPDX-License-Identifier: Apache-2.0
#include "eif/image/platform.h"

#include <charconv>
#include <limits>

#include "eif/image/source.h"
#include "src/base/text.h"

namespace nitro::image {

namespace {

constexpr unsigned kUnknownVariant = std::numeric_limits<unsigned>::max();
constexpr unsigned kMinorVersions = 100;  // of "v8.5"

// Returns the usual name of an architecture that enclaves have (containerd knows the same synonyms).
std::string known_architecture(std::string_view name) {
  auto architecture = to_lower(name);
  if (architecture == "x86_64" || architecture == "x86-64") return "amd64";
  if (architecture == "aarch64") return "arm64";
  return architecture;
}

// Returns 805 for "v8.5" and "8.5".
unsigned version_in(std::string_view variant) {
  if (variant.starts_with('v')) variant.remove_prefix(1);
  const auto* const end = variant.data() + variant.size();
  unsigned major = 0;
  auto read = std::from_chars(variant.data(), end, major);
  if (read.ec != std::errc() || major > kMinorVersions) return kUnknownVariant;
  unsigned minor = 0;
  if (read.ptr != end && *read.ptr == '.') read = std::from_chars(read.ptr + 1, end, minor);
  if (read.ec != std::errc() || read.ptr != end || minor >= kMinorVersions) return kUnknownVariant;
  return major * kMinorVersions + minor;
}

}  // namespace

std::string Platform::text() const {
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

std::optional<Platform> platform_in(const nlohmann::ordered_json& object) {
  Platform platform{to_lower(text_at(object, "os")), known_architecture(text_at(object, "architecture")),
                    to_lower(text_at(object, "variant"))};
  if (platform.os.empty() && platform.architecture.empty()) return std::nullopt;
  const auto* features = array_at(object, "os.features");
  platform.has_features = features != nullptr && !features->empty();
  return platform;
}

std::optional<unsigned> distance(const Platform& platform, std::string_view architecture) {
  const bool linux = platform.os.empty() || platform.os == "linux";
  if (!linux || platform.architecture != architecture || platform.has_features) return std::nullopt;
  if (platform.variant.empty()) return 0;
  const unsigned base = (architecture == "arm64" ? 8 : 1) * kMinorVersions;
  const unsigned version = version_in(platform.variant);
  return version < base || version == kUnknownVariant ? kUnknownVariant : version - base;
}

std::vector<std::size_t> nearest(std::span<const Platform> platforms, std::string_view architecture) {
  std::vector<std::size_t> found;
  unsigned least = 0;
  for (std::size_t i = 0; i < platforms.size(); ++i) {
    const auto far = distance(platforms[i], architecture);
    if (!far || (!found.empty() && *far > least)) continue;
    if (found.empty() || *far < least) found.clear();
    least = *far;
    found.push_back(i);
  }
  return found;
}

}  // namespace nitro::image
