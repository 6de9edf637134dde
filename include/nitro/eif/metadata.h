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
  std::string build_time;  ///< RFC 3339, or what the builder was told to write
  std::string build_tool;
  std::string build_tool_version;
  std::string operating_system;
  std::string kernel_version;

  bool operator==(const BuildInfo&) const = default;
};

/// The content of the metadata section (JSON). It is not measured: it describes an image and proves nothing.
struct Metadata {
  std::string image_name;
  std::string image_version;
  BuildInfo build;
  nlohmann::ordered_json docker_info;  ///< what the container engine said of the image; null when there was none
  nlohmann::ordered_json custom;       ///< given by the user; null when absent

  bool operator==(const Metadata&) const = default;
};

/// Most bytes of a metadata section, and of a custom metadata file (image format library).
inline constexpr std::size_t kMaxMetadataBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxCustomMetadataBytes = 4096;

/// Reads the JSON of a metadata section. The keys of docker_info and custom come out in the order of their bytes, as
/// the reference has them; unknown keys are ignored. Errors: kEifParsing, when a key is missing or of another type, or
/// the text is no JSON that we read.
Result<Metadata> parse_metadata(std::string_view json);
/// The bytes of the metadata section: compact JSON, the keys of docker_info and custom sorted at every level, whatever
/// their order here.
[[nodiscard]] std::string serialize_metadata(const Metadata& metadata);

/// A user's metadata file: JSON, at most kMaxCustomMetadataBytes; its keys are sorted as those of parse_metadata().
/// Errors: kFileOperation, kSerde; the path is named.
Result<nlohmann::ordered_json> read_custom_metadata(const std::string& path);

/// The operating system and the version of a kernel, from the third line of its configuration file
/// ("# Linux/x86_64 6.12.1 Kernel Configuration").
struct KernelIdentity {
  std::string operating_system;
  std::string version;  ///< up to the first '-'
};
/// Errors: kFileOperation; a file of fewer than three lines is kEifBuilding. A word that is missing reads "Unknown".
Result<KernelIdentity> read_kernel_identity(const std::string& config_path);

/// The build time of an image made now: SOURCE_DATE_EPOCH (seconds) when set, so that builds can be repeated, else the
/// clock. RFC 3339, UTC, "+00:00", with 0, 3, 6 or 9 decimals as needed. Errors: kInvalidArgument when the variable is
/// no number.
Result<std::string> default_build_time();
/// The build time that a user gives with --build-time, as it is; default_build_time() for nothing. Errors:
/// kInvalidArgument when it is no time of RFC 3339.
Result<std::string> build_time_or_default(const std::optional<std::string>& given);

/// JSON, and so the metadata of an image, can hold UTF-8 only. `what` names the text: an option, for instance. Errors:
/// kInvalidArgument.
Result<void> require_utf8(std::string_view what, std::string_view text);

/// How JSON is written wherever scripts or digests depend on its bytes: UTF-8 as it is, the shortest digits that give
/// the same number back, 1e16 without a plus sign. `indent` spaces a level; 0: no white space at all. No final newline.
[[nodiscard]] std::string json_text(const nlohmann::ordered_json& json, unsigned indent = 2);

}  // namespace nitro::eif
