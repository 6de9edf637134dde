// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/credential_chain.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "eif/kms/credential_endpoints.h"
#include "eif/kms/profile.h"
#include "eif/kms/sts.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/text.h"
#include "src/runtime/child.h"

namespace nitro::kms {

namespace {

constexpr std::size_t kMaxProcessOutput = std::size_t{1} << 16;
constexpr std::size_t kMaxTokenBytes = std::size_t{1} << 16;
// Advice for users of unsupported kinds of credentials.
constexpr const char* kExport =
    "let the AWS CLI get the credentials: `eval \"$(aws configure export-credentials --format env)\"`";

Failure refuse(std::string message) {
  return fail(ErrorCode::kSigning, std::move(message));
}

Result<std::optional<Credentials>> from_environment(const Environment& environment) {
  Credentials credentials{.access_key_id = environment.variable("AWS_ACCESS_KEY_ID"),
                          .secret_access_key = Secret(environment.variable("AWS_SECRET_ACCESS_KEY")),
                          .session_token = Secret(environment.variable("AWS_SESSION_TOKEN")),
                          .expires = std::nullopt,
                          .source = "the environment"};
  if (credentials.access_key_id.empty() && credentials.secret_access_key.empty()) return std::optional<Credentials>();
  NITRO_TRY(credentials, checked(std::move(credentials)));
  return std::optional(std::move(credentials));
}

// Returns the program's output. Its stderr is ours; it may ask for a second factor on the terminal.
Result<Secret> output_of(const std::string& command) {
  NITRO_TRY(auto pipe, make_pipe());
  ChildOptions options;
  options.arguments = {"/bin/sh", "-c", command};
  options.stdout_fd = pipe.second.get();
  options.stderr_fd = STDERR_FILENO;
  NITRO_TRY(auto child, Child::spawn(options));
  pipe.second.reset();
  std::string text(kMaxProcessOutput, '\0');
  NITRO_TRY(const auto size, read_full(pipe.first.get(), std::as_writable_bytes(std::span(text))));
  text.resize(size);
  Secret output(std::move(text));
  if (size == kMaxProcessOutput) return refuse(fmt::format("it prints more than {} bytes", kMaxProcessOutput));
  NITRO_TRY(const auto status, child.wait());
  if (!status.success()) return refuse("it " + status.to_string());
  return output;
}

Result<Credentials> from_process(const std::string& command, const std::string& source) {
  const auto output = output_of(command);
  if (!output) return fail_within(source, Error(output.error()).as(ErrorCode::kSigning));
  return credentials_in(*output, source);
}

// Returns an empty Secret if it is not set.
const Secret& value_of(const Profile& profile, const char* key) {
  static const Secret kNone;
  const auto found = profile.find(key);
  return found == profile.end() ? kNone : found->second;
}

bool has_keys(const Profile& profile) {
  return !value_of(profile, "aws_access_key_id").empty() || !value_of(profile, "aws_secret_access_key").empty();
}

Result<Credentials> keys_of(const Profile& profile, const std::string& source) {
  return checked({.access_key_id = value_of(profile, "aws_access_key_id").text(),
                  .secret_access_key = value_of(profile, "aws_secret_access_key"),
                  .session_token = value_of(profile, "aws_session_token"),
                  .expires = std::nullopt,
                  .source = source});
}

Result<Credentials> from_web_identity(const Environment& environment, const KeyArn& key, const std::string& token_file,
                                      const Role& role) {
  auto token = read_text_file(token_file, kMaxTokenBytes);
  if (!token) return Failure(std::move(token).error().as(ErrorCode::kSigning));
  // Files end with a line break, tokens do not.
  token->erase(token->find_last_not_of("\r\n") + 1);
  return assume_role_with_web_identity(environment, key, role, Secret(*std::move(token)));
}

// A profile may assume a role with the credentials of another profile, which may do the same; `users` are the profiles
// that led to `name`. Returns nullopt if the profile only has other settings.
Result<std::optional<Credentials>> from_profile(const Environment& environment, const KeyArn& key,
                                                const std::string& name, std::vector<std::string> users);

// Returns the credentials with which a profile with role_arn assumes the role.
Result<Credentials> source_of_role(const Environment& environment, const KeyArn& key, const std::string& name,
                                   const Profile& profile, std::vector<std::string> users) {
  const auto origin = value_of(profile, "credential_source").text();
  Result<std::optional<Credentials>> found = std::optional<Credentials>();
  if (const auto other = value_of(profile, "source_profile").text(); other == name && has_keys(profile)) {
    found = keys_of(profile, "the profile " + quote(name));
  } else if (!other.empty()) {
    users.push_back(name);
    found = from_profile(environment, key, other, std::move(users));
  } else if (origin == "Environment") {
    found = from_environment(environment);
  } else if (origin == "EcsContainer") {
    found = container_credentials(environment);
  } else if (origin == "Ec2InstanceMetadata") {
    found = instance_credentials(environment);
  }
  if (!found) return Failure(std::move(found).error());
  if (*found) return **std::move(found);
  return refuse(fmt::format(
      "the profile {} takes on a role, but neither its source_profile nor its credential_source has credentials",
      quote(name)));
}

Result<std::optional<Credentials>> from_profile(const Environment& environment, const KeyArn& key,
                                                const std::string& name, std::vector<std::string> users) {
  const auto source = "the profile " + quote(name);
  if (std::find(users.begin(), users.end(), name) != users.end()) {
    return refuse(source + " takes on a role with its own credentials, through source_profile");
  }
  NITRO_TRY(const auto profile, load_profile(environment, name));
  if (!profile) {
    if (users.empty() && environment.variable("AWS_PROFILE").empty()) return std::optional<Credentials>();
    return refuse(
        fmt::format("{} is not in ~/.aws/config and not in ~/.aws/credentials, or the files that AWS_CONFIG_FILE and "
                    "AWS_SHARED_CREDENTIALS_FILE name",
                    source));
  }
  // If a profile with a role serves as a source, its own keys come first, as in the AWS SDKs.
  if (!users.empty() && has_keys(*profile)) return keys_of(*profile, source);
  if (const Role role{.arn = value_of(*profile, "role_arn").text(),
                      .session_name = value_of(*profile, "role_session_name").text(),
                      .external_id = value_of(*profile, "external_id").text()};
      !role.arn.empty()) {
    if (const auto file = value_of(*profile, "web_identity_token_file").text(); !file.empty()) {
      return from_web_identity(environment, key, file, role);
    }
    if (!value_of(*profile, "mfa_serial").empty()) return refuse(source + " asks for a second factor; " + kExport);
    NITRO_TRY(const auto by, source_of_role(environment, key, name, *profile, std::move(users)));
    return assume_role(environment, key, role, by);
  }
  if (!value_of(*profile, "sso_session").empty() || !value_of(*profile, "sso_start_url").empty()) {
    return refuse(source + " is one of single sign-on, which this program does not know; " + kExport);
  }
  if (has_keys(*profile)) return keys_of(*profile, source);
  if (const auto command = value_of(*profile, "credential_process").text(); !command.empty()) {
    return from_process(command, "the credential_process of " + source);
  }
  return std::optional<Credentials>();
}

}  // namespace

Result<Credentials> find_credentials(const Environment& environment, const KeyArn& key) {
  NITRO_TRY(auto found, from_environment(environment));
  if (found) return *std::move(found);
  NITRO_TRY(found, from_profile(environment, key, profile_name(environment), {}));
  if (found) return *std::move(found);
  if (const auto file = environment.variable("AWS_WEB_IDENTITY_TOKEN_FILE"); !file.empty()) {
    const Role role{.arn = environment.variable("AWS_ROLE_ARN"),
                    .session_name = environment.variable("AWS_ROLE_SESSION_NAME"),
                    .external_id = {}};
    if (role.arn.empty()) return refuse("AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not");
    return from_web_identity(environment, key, file, role);
  }
  NITRO_TRY(found, container_credentials(environment));
  if (found) return *std::move(found);

  constexpr const char* kNone =
      "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in AWS_PROFILE, "
      "or give this EC2 instance a role";
  if (to_lower(environment.variable("AWS_EC2_METADATA_DISABLED")) == "true") {
    return refuse(std::string(kNone) + " and unset AWS_EC2_METADATA_DISABLED");
  }
  auto credentials = instance_credentials(environment);
  if (!credentials) return refuse(fmt::format("{} ({})", kNone, credentials.error().message()));
  return credentials;
}

}  // namespace nitro::kms
