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

/// In ~/.aws/config the section of a profile is [profile NAME], for the default one also [default]; in
/// ~/.aws/credentials it is [NAME].
enum class SharedFile { kConfig, kCredentials };

/// The profile `name` in the text of a shared file; nothing when there is no such section. The rules are those of
/// "Format of the shared config and credentials files" in the AWS SDKs and Tools Reference Guide: a line that is
/// indented more than the setting above belongs to that (none of those is of interest here); comments start with # or
/// ;, at the line's start or after a blank. What cannot be understood is passed over, as a file may hold what only
/// other tools know.
///
/// Of the small INI libraries in Debian 12, inih cuts lines at 200 characters, which session tokens exceed, and
/// SimpleIni needs ICU; neither knows the rule about indentation.
[[nodiscard]] std::optional<Profile> profile_in(std::string_view text, SharedFile file, std::string_view name);

/// The name of the profile to use: AWS_PROFILE, else "default".
[[nodiscard]] std::string profile_name(const Environment& environment);

/// The profile `name` of both files, AWS_CONFIG_FILE (~/.aws/config) and AWS_SHARED_CREDENTIALS_FILE
/// (~/.aws/credentials); settings in the latter win. A file that is not there is empty. Nothing when neither has the
/// profile. Errors: kSigning for a file that cannot be read.
Result<std::optional<Profile>> load_profile(const Environment& environment, std::string_view name);

}  // namespace nitro::kms
