// SPDX-License-Identifier: Apache-2.0
#include "eif/image/credential_helper.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <span>

#include "eif/image/secret_document.h"
#include "eif/image/source.h"
#include "src/base/bytes.h"
#include "src/runtime/child.h"

namespace nitro::image {

namespace {

constexpr std::uint64_t kMaxAnswerBytes = std::uint64_t{1} << 20;
// The helpers' protocol: the output, together with a failure, if there is no such login; and the user name that marks
// the secret as an identity token.
constexpr std::string_view kNotFound = "credentials not found";
constexpr std::string_view kTokenUser = "<token>";

// A file in memory: unlike a pipe it needs no reader or writer at the other end, and it is complete when the helper has
// ended.
Result<Fd> make_memory_file(std::string_view content) {
  Fd file(::memfd_create("credential-helper", MFD_CLOEXEC));
  if (!file) return fail_errno(ErrorCode::kDockerImagePull, "making a file in memory");
  NITRO_CHECK(write_all(file.get(), as_bytes(content)));
  if (::lseek(file.get(), 0, SEEK_SET) != 0)
    return fail_errno(ErrorCode::kDockerImagePull, "rewinding a file in memory");
  return file;
}

Result<ExitStatus> wait_for(Child& child, std::chrono::milliseconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd ended{child.pidfd(), POLLIN, 0};
    const int count = ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (count > 0) return child.wait();
    if (count == 0) {
      return fail(ErrorCode::kDockerImagePull,
                  "it did not answer within " + std::to_string(timeout.count() / 1000) + " seconds");
    }
    if (errno != EINTR) return fail_errno(ErrorCode::kDockerImagePull, "waiting for it");
  }
}

Result<std::optional<Credentials>> ask(const std::string& program, const std::string& server,
                                       std::chrono::milliseconds timeout) {
  NITRO_TRY(const Fd question, make_memory_file(server));
  NITRO_TRY(const Fd answer, make_memory_file({}));
  ChildOptions options;
  options.arguments = {program, "get"};
  options.stdin_fd = question.get();
  options.stdout_fd = answer.get();
  options.stderr_fd = STDERR_FILENO;
  options.parent_death_signal = SIGKILL;
  NITRO_TRY(auto child, Child::spawn(options));
  NITRO_TRY(const auto status, wait_for(child, timeout));
  NITRO_TRY(const auto size, file_size(answer.get()));
  std::string bytes(static_cast<std::size_t>(std::min(size, kMaxAnswerBytes)), '\0');
  NITRO_CHECK(pread_exact(answer.get(), std::as_writable_bytes(std::span(bytes)), 0));
  const Secret text(std::move(bytes));
  if (!status.success()) {
    if (text.text().find(kNotFound) != std::string::npos) return std::optional<Credentials>();
    const auto reason = text.text().substr(0, std::min<std::size_t>(text.text().find('\n'), 300));
    return fail(ErrorCode::kDockerImagePull, "it " + status.to_string() + (reason.empty() ? "" : ": " + quote(reason)));
  }
  NITRO_TRY(auto json, parse_document(text.text(), "its answer"));
  const WipedDocument wiped(json);
  Secret secret(text_at(json, "Secret"));
  if (secret.empty()) return std::optional<Credentials>();
  auto user = text_at(json, "Username");
  if (user == kTokenUser) return std::optional(Credentials{{}, {}, std::move(secret)});
  return std::optional(Credentials{std::move(user), std::move(secret), {}});
}

}  // namespace

Result<std::optional<Credentials>> ask_credential_helper(const std::string& name, const std::string& server,
                                                         std::chrono::milliseconds timeout) {
  const auto step = "the credential helper " + quote(name);
  if (name.find('/') != std::string::npos)
    return fail(ErrorCode::kDockerImagePull, step + ": a helper has no '/' in its name");
  auto found = ask("docker-credential-" + name, server, timeout);
  if (!found) return fail_within(step, std::move(found).error().as(ErrorCode::kDockerImagePull));
  return found;
}

}  // namespace nitro::image
