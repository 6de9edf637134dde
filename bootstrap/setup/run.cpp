// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/run.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>

#include "bootstrap/allocator/allocation.h"
#include "bootstrap/change.h"
#include "bootstrap/report.h"
#include "bootstrap/setup/access.h"
#include "bootstrap/setup/driver.h"
#include "bootstrap/setup/options.h"
#include "bootstrap/setup/request.h"
#include "src/base/cpu_list.h"
#include "src/command/program.h"

namespace nitro::setup {
namespace {

bool needs_root(Action action) {
  return action == Action::kInsert || action == Action::kRemove;
}

const char* flag_of(Action action) {
  switch (action) {
    case Action::kBuild:
      return "-b";
    case Action::kClean:
      return "-c";
    case Action::kInsert:
      return "-i";
    case Action::kRemove:
      return "-r";
  }
  return "";
}

/// Which driver -i loads.
enum class Module { kOfSystem, kBuilt };

/// Does what a command line asks for.
class Setup {
 public:
  explicit Setup(const Options& options)
      : options_(options),
        driver_(KernelFiles{.root = options.root}, [this](const std::string& text) { say(text); }),
        module_(options.driver_folder ? Module::kBuilt : Module::kOfSystem) {}

  Result<void> run() {
    for (; done_ < options_.actions.size(); ++done_) {
      const Action action = options_.actions[done_];
      if (needs_root(action)) NITRO_CHECK(begin());
      NITRO_CHECK(act(action));
    }
    if (!options_.resources.any()) return {};
    NITRO_CHECK(begin());
    return reserve();
  }

 private:
  void say(const std::string& text) const {
    if (options_.verbose) std::cout << text << std::endl;
  }

  [[nodiscard]] std::string driver_folder() const { return options_.driver_folder.value_or("."); }

  /// Before the first change of this machine.
  Result<void> begin() {
    if (!record_) {
      if (::geteuid() != 0 && options_.root.empty()) return become_root();
      // Folders and files in /etc are for all to read, and for root to write, whatever the caller's umask is.
      ::umask(022);
      NITRO_TRY(record_, allocator::begin_change(options_.root));
    }
    if (allocator::is_asked_to_end()) return fail(ErrorCode::kFileOperation, "cancelled");
    return {};
  }

  /// Executes this program with sudo(8), for what is left to do. Returns the error why not.
  Failure become_root() const {
    const std::string why = "changing the driver, CPUs or huge pages needs root";
    if (!options_.use_sudo) return fail(ErrorCode::kFilePermissions, why);
    std::error_code error;
    const std::string self = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) return fail_errno(ErrorCode::kFileOperation, "finding where nitro-cli-config is", error.value());
    std::vector<std::string> words = {"sudo", "--", self, "--no-sudo"};
    if (options_.verbose) words.emplace_back("-v");
    if (module_ == Module::kBuilt) words.insert(words.end(), {"-d", driver_folder()});
    for (std::size_t i = done_; i < options_.actions.size(); ++i) words.emplace_back(flag_of(options_.actions[i]));
    const Resources& wanted = options_.resources;
    if (wanted.memory_mib) words.insert(words.end(), {"-m", std::to_string(*wanted.memory_mib)});
    if (!wanted.cpus.empty()) words.insert(words.end(), {"-p", cpu_list_of(wanted.cpus)});
    if (wanted.cpu_count > 0) words.insert(words.end(), {"-t", std::to_string(wanted.cpu_count)});
    std::vector<char*> arguments;
    // execvp does not write through the pointers (exec(3), rationale in POSIX).
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    std::cout.flush();
    ::execvp(arguments[0], arguments.data());
    return fail_errno(ErrorCode::kFilePermissions, why + ", and sudo cannot be started");
  }

  Result<void> act(Action action) {
    switch (action) {
      case Action::kBuild:
        return build();
      case Action::kClean:
        NITRO_CHECK(clean_driver(driver_folder()));
        say("The driver that was built is removed");
        return {};
      case Action::kInsert:
        return insert();
      case Action::kRemove:
        return driver_.remove();
    }
    return {};
  }

  Result<void> build() {
    say("Building the driver");
    NITRO_TRY(const bool is_built, build_driver(driver_folder(), options_.verbose));
    module_ = is_built ? Module::kBuilt : Module::kOfSystem;
    say(is_built ? fmt::format("The driver is built: {}", module_in(driver_folder()))
                 : "The kernel comes with the driver: nothing is built");
    return {};
  }

  Result<void> insert() {
    NITRO_TRY(const auto user, calling_user());
    NITRO_CHECK(module_ == Module::kBuilt ? driver_.load(module_in(driver_folder())) : driver_.load());
    NITRO_TRY(const bool is_new, give_access(options_.root, user, allocator::is_asked_to_end));
    say("The group ne may use the driver, its folder for sockets and its log");
    if (is_new) {
      // Not a shell with the new group: a script would wait for it.
      std::cerr << fmt::format(
          "{} is now in the group ne: log in again, or start a shell with `newgrp ne`, to run enclaves\n", *user);
    }
    return {};
  }

  Result<void> reserve() {
    allocator::Kernel kernel(KernelFiles{.root = options_.root});
    NITRO_TRY(const allocator::Topology now, kernel.topology());
    NITRO_TRY(const auto config, request_of(options_.resources, now));
    const allocator::Progress progress{
        .say = [this](const std::string& text) { say(text); },
        .warn = [](const std::string& text) { std::cerr << "Warning: " << text << "\n"; },
        .is_cancelled = allocator::is_asked_to_end};
    NITRO_TRY(const auto done, allocator::allocate(config, kernel, *record_, progress));
    const std::string what = config.wants_memory()
                                 ? allocator::text_of(done)
                                 : fmt::format("NUMA node {}: CPUs {}", done.node, cpu_list_of(done.cpus));
    say(fmt::format("{} for enclaves on {}", done.was_there ? "Already reserved" : "Reserved", what));
    return {};
  }

  const Options& options_;
  Driver driver_;
  std::optional<allocator::Record> record_;  // from the first change on, so that nobody else changes anything meanwhile
  std::size_t done_ = 0;                     // of the actions
  Module module_;
};

}  // namespace

int run(int argc, char** argv) {
  const CommandLine line = parse_options(argc, argv);
  if (!line.options) {
    (line.status == 0 ? std::cout : std::cerr) << line.text;
    return line.status;
  }
  if (auto done = Setup(*line.options).run(); !done) return fail_with(allocator::explained(done.error()));
  return finish_output();
}

}  // namespace nitro::setup
