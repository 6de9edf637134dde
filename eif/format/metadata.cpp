// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/metadata.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/json.h"
#include "src/base/rfc3339.h"
#include "src/base/text.h"

namespace nitro::eif {
namespace {

constexpr const char* kImageName = "ImageName";
constexpr const char* kImageVersion = "ImageVersion";
constexpr const char* kBuildMetadata = "BuildMetadata";
constexpr const char* kBuildTime = "BuildTime";
constexpr const char* kBuildTool = "BuildTool";
constexpr const char* kBuildToolVersion = "BuildToolVersion";
constexpr const char* kOperatingSystem = "OperatingSystem";
constexpr const char* kKernelVersion = "KernelVersion";
constexpr const char* kDockerInfo = "DockerInfo";
constexpr const char* kCustomMetadata = "CustomMetadata";

Failure malformed(const std::string& what) {
  return fail(ErrorCode::kEifParsing, "reading the image's metadata: " + what + "; build the image again");
}

Result<std::string> text_of(const nlohmann::ordered_json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return malformed(std::string("there is no ") + key);
  if (!found->is_string()) return malformed(std::string(key) + " is no text");
  return found->get<std::string>();
}

nlohmann::ordered_json value_of(const nlohmann::ordered_json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nlohmann::ordered_json() : *found;
}

}  // namespace

Result<Metadata> parse_metadata(std::string_view text) {
  auto parsed = parse_json(text, ErrorCode::kEifParsing);
  if (!parsed) return malformed(parsed.error().message());
  const nlohmann::ordered_json& json = *parsed;
  if (!json.is_object()) return malformed("it is no JSON object");
  const auto build = json.find(kBuildMetadata);
  if (build == json.end() || !build->is_object()) return malformed(std::string("there is no object ") + kBuildMetadata);

  Metadata metadata;
  NITRO_TRY(metadata.image_name, text_of(json, kImageName));
  NITRO_TRY(metadata.image_version, text_of(json, kImageVersion));
  NITRO_TRY(metadata.build.build_time, text_of(*build, kBuildTime));
  NITRO_TRY(metadata.build.build_tool, text_of(*build, kBuildTool));
  NITRO_TRY(metadata.build.build_tool_version, text_of(*build, kBuildToolVersion));
  NITRO_TRY(metadata.build.operating_system, text_of(*build, kOperatingSystem));
  NITRO_TRY(metadata.build.kernel_version, text_of(*build, kKernelVersion));
  metadata.docker_info = with_sorted_keys(value_of(json, kDockerInfo));
  metadata.custom = with_sorted_keys(value_of(json, kCustomMetadata));
  return metadata;
}

std::string serialize_metadata(const Metadata& metadata) {
  nlohmann::ordered_json build;
  build[kBuildTime] = metadata.build.build_time;
  build[kBuildTool] = metadata.build.build_tool;
  build[kBuildToolVersion] = metadata.build.build_tool_version;
  build[kOperatingSystem] = metadata.build.operating_system;
  build[kKernelVersion] = metadata.build.kernel_version;
  nlohmann::ordered_json json;
  json[kImageName] = metadata.image_name;
  json[kImageVersion] = metadata.image_version;
  json[kBuildMetadata] = std::move(build);
  json[kDockerInfo] = with_sorted_keys(metadata.docker_info);
  json[kCustomMetadata] = with_sorted_keys(metadata.custom);
  return json_text(json, 0);
}

Result<nlohmann::ordered_json> read_custom_metadata(const std::string& path) {
  const std::string step = "reading the metadata file " + quote(path);
  NITRO_TRY(const Fd file, open_file(path, O_RDONLY));
  std::string text(kMaxCustomMetadataBytes + 1, '\0');
  auto size = read_full(file.get(), std::as_writable_bytes(std::span(text)));
  if (!size) return fail_within(step, std::move(size).error());
  if (*size > kMaxCustomMetadataBytes) {
    return fail(ErrorCode::kFileOperation,
                step + ": it is larger than " + std::to_string(kMaxCustomMetadataBytes) + " bytes; make it smaller");
  }
  text.resize(*size);
  auto json = parse_json(text, ErrorCode::kSerde);
  if (!json) return fail_within(step, std::move(json).error());
  return with_sorted_keys(*json);
}

Result<KernelIdentity> read_kernel_identity(const std::string& config_path) {
  const std::string step = "reading the kernel configuration " + quote(config_path);
  NITRO_TRY(const std::string text, read_text_file(config_path));
  std::size_t start = 0;
  for (int line = 0; line < 2; ++line) {
    const std::size_t end = text.find('\n', start);
    if (end == std::string::npos || end + 1 == text.size()) {
      return fail(ErrorCode::kEifBuilding,
                  step + ": it has fewer than three lines; name the .config file of the kernel");
    }
    start = end + 1;
  }
  std::string_view line = std::string_view(text).substr(start);
  line = line.substr(0, line.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);

  // "# Linux/x86_64 6.12.1 Kernel Configuration": the second and the fourth word, if space, slash and hyphen separate
  // words.
  std::array<std::string, 4> words{"Unknown", "Unknown", "Unknown", "Unknown"};
  for (std::string& word : words) {
    const std::size_t end = line.find_first_of(" /-");
    word = line.substr(0, end);
    if (end == std::string_view::npos) break;
    line.remove_prefix(end + 1);
  }
  return KernelIdentity{.operating_system = words[1], .version = words[3]};
}

Result<std::string> default_build_time() {
  if (const char* epoch = std::getenv("SOURCE_DATE_EPOCH"); epoch != nullptr) {
    const std::string_view text(epoch);
    std::int64_t seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc() || end != text.data() + text.size() || seconds < 0 || seconds > kLastRfc3339Second) {
      return fail(ErrorCode::kInvalidArgument,
                  "SOURCE_DATE_EPOCH is " + quote(text) + "; set it to seconds since 1970, or unset it");
    }
    return rfc3339(static_cast<std::time_t>(seconds), 0);
  }
  std::timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return rfc3339(now.tv_sec, now.tv_nsec);
}

Result<std::string> build_time_or_default(const std::optional<std::string>& given) {
  if (!given) return default_build_time();
  if (parse_rfc3339(*given)) return *given;
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("--build-time {} is no time of RFC 3339; write it as 2024-05-06T07:08:09Z", quote(*given)));
}

Result<void> require_utf8(std::string_view what, std::string_view text) {
  if (parse_json(json_text(std::string(text), 0), ErrorCode::kInvalidArgument)) return {};
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("{} is not UTF-8, which the metadata of an image has to be", what));
}

}  // namespace nitro::eif
