// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/access.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <vector>

#include "bootstrap/setup/files.h"
#include "bootstrap/setup/tool.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/kernel_files.h"
#include "src/base/number.h"
#include "src/base/output_file.h"

namespace nitro::setup {
namespace {

constexpr ErrorCode kCode = ErrorCode::kFileOperation;
constexpr const char* kTmpfilesName = "nitro-cli.conf";

struct Group {
  gid_t id = 0;
  std::vector<std::string> members;
};

/// The value of a key of the udev rule: KEY="value".
std::string rule_value(std::string_view key) {
  const std::string before = fmt::format(" {}=\"", key);
  const std::size_t begin = kUdevRules.find(before) + before.size();
  return std::string(kUdevRules.substr(begin, kUdevRules.find('"', begin) - begin));
}

const std::string& group_name() {
  static const std::string name = rule_value("GROUP");
  return name;
}

Group group_of(const ::group& entry) {
  Group group{.id = entry.gr_gid, .members = {}};
  for (char** member = entry.gr_mem; *member != nullptr; ++member) group.members.emplace_back(*member);
  return group;
}

/// Nothing if there is no such group.
std::optional<Group> find_group(const std::string& root) {
  if (root.empty()) {
    const ::group* entry = ::getgrnam(group_name().c_str());
    return entry != nullptr ? std::optional(group_of(*entry)) : std::nullopt;
  }
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen((root + "/etc/group").c_str(), "re"), std::fclose);
  if (file == nullptr) return std::nullopt;
  for (const ::group* entry = ::fgetgrent(file.get()); entry != nullptr; entry = ::fgetgrent(file.get())) {
    if (group_name() == entry->gr_name) return group_of(*entry);
  }
  return std::nullopt;
}

/// Appends an option for another root, if there is one.
std::vector<std::string> with_root(std::vector<std::string> command, const char* option, const std::string& root) {
  if (!root.empty()) command.insert(command.begin() + 1, fmt::format("{}={}", option, root));
  return command;
}

Result<void> run(std::vector<std::string> command) {
  auto done = run_tool(std::move(command));
  return done ? Result<void>() : Failure(std::move(done).error());
}

/// The lines of a configuration file, in words, without comments.
std::vector<std::vector<std::string>> lines_of(std::string_view text) {
  std::vector<std::vector<std::string>> lines;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words(line);
    std::vector<std::string> split;
    for (std::string word; words >> word;) split.push_back(std::move(word));
    if (!split.empty() && split.front().front() != '#') lines.push_back(std::move(split));
  }
  return lines;
}

Result<Group> make_group(const std::string& root) {
  if (auto group = find_group(root)) return std::move(*group);
  if (has_tool("systemd-sysusers")) {
    // Its lines are separate arguments.
    for (const auto& words : lines_of(kSysusers)) {
      NITRO_CHECK(
          run(with_root({"systemd-sysusers", "--inline", fmt::format("{}", fmt::join(words, " "))}, "--root", root)));
    }
  } else {
    NITRO_CHECK(run(with_root({"groupadd", "--system", group_name()}, "--prefix", root)));
  }
  if (auto group = find_group(root)) return std::move(*group);
  return fail(kCode, fmt::format("the group {} was created, but is not there", group_name()));
}

/// Writes a file, unless it is as it should be.
Result<void> install_file(const std::string& path, std::string_view text) {
  const auto present = read_text_file(path);
  if (present && *present == text) return {};
  const std::string folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(kCode, "creating " + quote(folder), error.value());
  NITRO_TRY(OutputFile file, OutputFile::create(path, 0644));
  NITRO_CHECK(write_all(file.fd(), as_bytes(text)));
  return file.commit();
}

/// Gives a file to root and the group, unless it is theirs. Does not follow a link.
Result<void> set_access(const std::string& path, mode_t mode, const Group& group) {
  NITRO_TRY(const Fd file, open_file(path, O_PATH | O_NOFOLLOW));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(kCode, "looking at " + quote(path));
  if (S_ISLNK(status.st_mode)) return fail(kCode, quote(path) + " is a symbolic link: remove it");
  if (status.st_uid == 0 && status.st_gid == group.id && (status.st_mode & 07777) == mode) return {};
  if (::fchownat(file.get(), "", 0, group.id, AT_EMPTY_PATH) != 0) {
    return fail_errno(kCode, fmt::format("giving {} to the group {}", quote(path), group_name()));
  }
  // chmod(2) has no form for such a descriptor, but /proc has a name for the file.
  if (::chmod(fmt::format("/proc/self/fd/{}", file.get()).c_str(), mode) != 0)
    return fail_errno(kCode, "setting the permissions of " + quote(path));
  return {};
}

Result<void> set_up_device(const std::string& root, const Group& group) {
  NITRO_CHECK(install_file(root + "/etc/udev/rules.d/99-nitro-enclaves.rules", kUdevRules));
  if (has_tool("udevadm")) {
    // Where udev does not run, as in a container, they fail; where it is late, the owner is set below. Both find the
    // rule at the next start.
    for (std::vector<std::string> command : {std::vector<std::string>{"udevadm", "control", "--reload"},
                                             {"udevadm", "trigger", "--name-match=nitro_enclaves"}}) {
      static_cast<void>(run(std::move(command)));
    }
  }
  const std::string device = KernelFiles{.root = root}.device();
  auto set = set_access(device, parse_number<mode_t>(rule_value("MODE"), 8).value_or(0), group);
  if (set || set.error().system_errno() != ENOENT) return set;
  return fail(kCode, fmt::format("the driver is loaded, but there is no {}: start the instance with enclaves enabled "
                                 "(EC2: --enclave-options Enabled=true)",
                                 quote(device)));
}

/// Without systemd: what the lines of kTmpfiles say: type, path, mode, user, group.
Result<void> make_folders(const std::string& root, const Group& group) {
  for (const auto& words : lines_of(kTmpfiles)) {
    const std::string path = root + words.at(1);
    if (words.front() == "d") {
      std::error_code error;
      std::filesystem::create_directories(path, error);
      if (error) return fail_errno(kCode, "creating " + quote(path), error.value());
    } else {
      auto created = open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
      if (!created && created.error().system_errno() != EEXIST) return Failure(std::move(created).error());
    }
    NITRO_CHECK(set_access(path, parse_number<mode_t>(words.at(2), 8).value_or(0), group));
  }
  return {};
}

Result<void> set_up_folders(const std::string& root, const Group& group) {
  const std::string file = fmt::format("/etc/tmpfiles.d/{}", kTmpfilesName);
  // For every later start, as /run is empty then.
  NITRO_CHECK(install_file(root + file, kTmpfiles));
  if (!has_tool("systemd-tmpfiles")) return make_folders(root, group);
  return run(with_root({"systemd-tmpfiles", "--create", kTmpfilesName}, "--root", root));
}

}  // namespace

Result<bool> give_access(const std::string& root, const std::optional<std::string>& user,
                         const std::function<bool()>& is_cancelled) {
  Group group;
  bool is_new = false;
  const std::array<std::function<Result<void>()>, 4> steps = {
      [&]() -> Result<void> {
        NITRO_TRY(group, make_group(root));
        return {};
      },
      [&] { return set_up_device(root, group); },
      [&] { return set_up_folders(root, group); },
      [&]() -> Result<void> {
        is_new = user && std::find(group.members.begin(), group.members.end(), *user) == group.members.end();
        if (!is_new) return {};
        // Unlike usermod, it takes users who are not in /etc/passwd but known otherwise.
        return run(with_root({"gpasswd", "--add", *user, group_name()}, "--root", root));
      },
  };
  for (const auto& step : steps) {
    if (is_cancelled()) return fail(kCode, "cancelled; -i completes what has been done");
    NITRO_CHECK(step());
  }
  return is_new;
}

Result<std::optional<std::string>> calling_user() {
  const uid_t uid = ::getuid();
  if (const auto caller = environment_variable("SUDO_USER"); uid == 0 && caller) {
    const passwd* entry = ::getpwnam(caller->c_str());
    if (entry == nullptr) return fail(kCode, fmt::format("there is no user {}, which SUDO_USER names", quote(*caller)));
    return entry->pw_uid != 0 ? std::optional(*caller) : std::nullopt;
  }
  if (uid == 0) return std::optional<std::string>();
  const passwd* entry = ::getpwuid(uid);
  if (entry == nullptr) return fail(kCode, fmt::format("the user with the number {} has no name", uid));
  return std::optional<std::string>(entry->pw_name);
}

}  // namespace nitro::setup
