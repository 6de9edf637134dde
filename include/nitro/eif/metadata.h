// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::eif {

/// When and with what an image was built.
struct BuildInfo {
  std::string build_time;  ///< RFC 3339, or whatever the builder was told to write
  std::string build_tool;
  std::string build_tool_version;
  std::string operating_system;
  std::string kernel_version;

  bool operator==(const BuildInfo&) const = default;
};

/// The content of the metadata section (JSON). It is not measured, so it proves nothing about an image.
struct Metadata {
  std::string image_name;
  std::string image_version;
  BuildInfo build;
  nlohmann::ordered_json docker_info;  ///< the container engine's description of the image; null when there was none
  nlohmann::ordered_json custom;       ///< given by the user; null when absent

  bool operator==(const Metadata&) const = default;
};

/// Size limits of a metadata section and of a custom metadata file (image format library).
inline constexpr std::size_t kMaxMetadataBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxCustomMetadataBytes = 4096;

/// Parses the JSON of a metadata section. The keys of docker_info and custom are sorted by their bytes, as in the
/// reference; unknown keys are ignored. Errors: kEifParsing when a key is missing or of the wrong type, or when the
/// text is not JSON that we accept.
Result<Metadata> parse_metadata(std::string_view json);
/// Returns the bytes of the metadata section: compact JSON, with the keys of docker_info and custom sorted at every
/// level, whatever their order here.
[[nodiscard]] std::string serialize_metadata(const Metadata& metadata);

/// Reads a user's metadata file: JSON, at most kMaxCustomMetadataBytes; the keys are sorted like those of
/// parse_metadata(). Errors: kFileOperation, kSerde; the message names the path.
Result<nlohmann::ordered_json> read_custom_metadata(const std::string& path);

/// The operating system and the version of a kernel, from the third line of its configuration file ("# Linux/x86_64
/// 6.12.1 Kernel Configuration").
struct KernelIdentity {
  std::string operating_system;
  std::string version;  ///< up to the first '-'
};
/// Missing words become "Unknown". Errors: kFileOperation; kEifBuilding for a file of fewer than three lines.
Result<KernelIdentity> read_kernel_identity(const std::string& config_path);

/// Returns the build time for an image made now: SOURCE_DATE_EPOCH (seconds) if set, for reproducible builds, else the
/// current time. RFC 3339, UTC, "+00:00", with 0, 3, 6 or 9 decimals as needed. Errors: kInvalidArgument when the
/// variable is not a number.
Result<std::string> default_build_time();
/// Returns the value of --build-time unchanged, or default_build_time() if there is none. Errors: kInvalidArgument when
/// the value is not an RFC 3339 time.
Result<std::string> build_time_or_default(const std::optional<std::string>& given);

/// Checks that `text` is UTF-8, the only encoding that JSON and so the metadata can hold. `what` names the text, such
/// as an option. Errors: kInvalidArgument.
Result<void> require_utf8(std::string_view what, std::string_view text);

/// Writes JSON in the form used wherever scripts or digests depend on its bytes: UTF-8 unescaped, the shortest digits
/// that round-trip, 1e16 without a plus sign. `indent`: spaces per level; 0: no white space at all. No final newline.
[[nodiscard]] std::string json_text(const nlohmann::ordered_json& json, unsigned indent = 2);

}  // namespace nitro::eif
