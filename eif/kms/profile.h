// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "eif/kms/environment.h"
#include "nitro/result.h"
#include "src/base/secret.h"

namespace nitro::kms {

/// The settings of one profile: name in lower case → value.
using Profile = std::map<std::string, Secret>;

/// In ~/.aws/config the section of a profile is [profile NAME], or [default] for the default one; in ~/.aws/credentials
/// it is [NAME].
enum class SharedFile { kConfig, kCredentials };

/// Returns the profile `name` in the text of a shared file, or nullopt if there is no such section. The rules are those
/// of "Format of the shared config and credentials files" in the AWS SDKs and Tools Reference Guide: a line with more
/// indentation than the setting above belongs to that setting (none of these matters here); comments start with # or ;,
/// at the start of the line or after a blank. Unknown content is skipped, as it may be meant for other tools.
///
/// Of the small INI libraries in Debian 12, inih truncates lines at 200 characters, which session tokens exceed, and
/// SimpleIni needs ICU; neither supports the rule about indentation.
[[nodiscard]] std::optional<Profile> profile_in(std::string_view text, SharedFile file, std::string_view name);

/// Returns the name of the profile to use: AWS_PROFILE, else "default".
[[nodiscard]] std::string profile_name(const Environment& environment);

/// Merges the profile `name` of both files, AWS_CONFIG_FILE (~/.aws/config) and AWS_SHARED_CREDENTIALS_FILE
/// (~/.aws/credentials); the latter's settings win. A missing file counts as empty. Returns nullopt if neither has the
/// profile. Errors: kSigning for a file that cannot be read.
Result<std::optional<Profile>> load_profile(const Environment& environment, std::string_view name);

}  // namespace nitro::kms
