// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/profile.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "nitro/fd.h"
#include "src/base/text.h"

namespace nitro::kms {

namespace {

constexpr std::string_view kBlank = " \t\r\v\f";
// Such files have a few KiB.
constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;

bool is_blank(char c) {
  return kBlank.find(c) != std::string_view::npos;
}

// Cuts the text at a # or ; at its start or after a blank.
std::string_view without_comment(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((text[i] == '#' || text[i] == ';') && (i == 0 || is_blank(text[i - 1]))) return text.substr(0, i);
  }
  return text;
}

// Returns the profile that a section header names, or nullopt if the section is not a profile.
std::optional<std::string_view> profile_of_section(std::string_view line, SharedFile file) {
  const auto end = line.find(']');
  if (end == std::string_view::npos) return std::nullopt;
  const auto title = trimmed(line.substr(1, end - 1), kBlank);
  if (file == SharedFile::kCredentials || title == "default") return title;
  constexpr std::string_view kWord = "profile";
  if (!title.starts_with(kWord) || title.size() == kWord.size() || !is_blank(title[kWord.size()])) return std::nullopt;
  return trimmed(title.substr(kWord.size()));
}

std::string path_of(const Environment& environment, const char* variable, const char* usual) {
  auto path = environment.variable(variable);
  if (path.empty()) path = usual;
  const auto home = environment.variable("HOME");
  if (path.starts_with("~/")) path = home.empty() ? std::string() : home + path.substr(1);
  return path;
}

Result<std::optional<Profile>> load_file(const std::string& path, SharedFile file, std::string_view name) {
  if (path.empty()) return std::optional<Profile>();
  auto read = read_text_file(path, kMaxFileBytes);
  if (!read) {
    if (read.error().system_errno() == ENOENT || read.error().system_errno() == ENOTDIR)
      return std::optional<Profile>();
    return Failure(std::move(read).error().as(ErrorCode::kSigning));
  }
  const Secret text(*std::move(read));
  return profile_in(text.text(), file, name);
}

}  // namespace

std::optional<Profile> profile_in(std::string_view text, SharedFile file, std::string_view name) {
  std::optional<Profile> profile;
  bool inside = false;
  std::size_t setting_indent = std::string_view::npos;  // of the section's last setting; npos: there is none
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto indent = std::min(line.find_first_not_of(kBlank), line.size());
    line = without_comment(line.substr(indent));
    if (line.empty()) continue;
    if (line.front() == '[' && indent == 0) {
      inside = profile_of_section(line, file) == name;
      if (inside && !profile) profile.emplace();
      setting_indent = std::string_view::npos;
      continue;
    }
    if (indent > setting_indent) continue;  // belongs to the setting above
    setting_indent = indent;
    const auto equals = line.find('=');
    if (!inside || equals == std::string_view::npos) continue;
    auto key = to_lower(trimmed(line.substr(0, equals), kBlank));
    profile->insert_or_assign(std::move(key), Secret(std::string(trimmed(line.substr(equals + 1), kBlank))));
  }
  return profile;
}

std::string profile_name(const Environment& environment) {
  const auto name = environment.variable("AWS_PROFILE");
  return name.empty() ? "default" : name;
}

Result<std::optional<Profile>> load_profile(const Environment& environment, std::string_view name) {
  NITRO_TRY(auto config,
            load_file(path_of(environment, "AWS_CONFIG_FILE", "~/.aws/config"), SharedFile::kConfig, name));
  NITRO_TRY(auto credentials, load_file(path_of(environment, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
                                        SharedFile::kCredentials, name));
  if (!config || !credentials) return config ? std::move(config) : std::move(credentials);
  // merge() keeps existing entries.
  credentials->merge(*config);
  return credentials;
}

}  // namespace nitro::kms
