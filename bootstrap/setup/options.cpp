// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "bootstrap/allocator/config.h"
#include "src/base/bytes.h"
#include "src/base/cpu_list.h"
#include "src/base/number.h"

namespace nitro::setup {
namespace {

/// What the command line says, before it is checked.
struct Texts {
  std::string memory;
  std::string cpus;
  std::string cpu_count;
};

/// Throws CLI::ValidationError.
std::uint64_t number(const CLI::Option& option, const std::string& text, std::uint64_t max, const char* what) {
  const auto parsed = parse_number<std::uint64_t>(text);
  if (!parsed || *parsed == 0 || *parsed > max) {
    throw CLI::ValidationError(
        fmt::format("{} must be {}, from 1 to {}, not {}", option.get_name(), what, max, quote(text)));
  }
  return *parsed;
}

/// Throws CLI::ValidationError.
std::vector<std::uint32_t> cpu_list(const CLI::Option& option, const std::string& text) {
  auto ids = parse_cpu_list(text);
  if (!ids || ids->empty() || std::find(ids->begin(), ids->end(), 0U) != ids->end()) {
    throw CLI::ValidationError(
        fmt::format("{} must be a list of CPUs like 2,3,6-9, without CPU 0, not {}", option.get_name(), quote(text)));
  }
  std::sort(ids->begin(), ids->end());
  ids->erase(std::unique(ids->begin(), ids->end()), ids->end());
  return std::move(*ids);
}

}  // namespace

CommandLine parse_options(int argc, const char* const* argv) {
  CLI::App application(
      "Makes this machine ready for enclaves. Actions are done in the order of the command line, and then "
      "memory and CPUs are set aside.",
      "nitro-cli-config");
  application.set_version_flag("-V,--version", "nitro-cli-config 1.5.0", "Print version");
  application.set_help_flag("-h,--help", "Print help");
  Options options;
  Texts texts;
  std::string folder;
  bool skips_shell = false;
  application.add_flag("-v", options.verbose, "Say what is done");
  auto* directory =
      application.add_option("-d", folder, "The folder with the driver's sources, and the module built from them")
          ->type_name("DIR")
          ->take_last();
  auto* build = application.add_flag("-b")->description("Build the driver (default folder: the current one)");
  auto* clean = application.add_flag("-c")->description("Remove the module that -b has built");
  auto* insert = application.add_flag("-i")->description("Load the driver, and let the group ne and this user use it");
  auto* remove = application.add_flag("-r")->description("Remove the driver");
  auto* memory =
      application.add_option("-m", texts.memory, "Memory for enclaves, in huge pages")->type_name("MiB")->take_last();
  auto* cpus =
      application.add_option("-p", texts.cpus, "The CPUs for enclaves, like 2,3,6-9")->type_name("CPUS")->take_last();
  auto* count =
      application.add_option("-t", texts.cpu_count, "The number of CPUs for enclaves")->type_name("COUNT")->take_last();
  cpus->excludes(count);
  // Of the AWS tool, which would start a shell for the user's new group.
  application.add_flag("-s", skips_shell)->group("");
  auto* no_sudo = application.add_flag("--no-sudo")->description("Fail where root is needed, instead of using sudo(8)");
  application.add_option("--root", options.root, "A folder in front of all paths")->type_name("DIR");
  CommandLine line;
  std::ostringstream text;
  try {
    if (argc < 2) throw CLI::RequiredError("Nothing to do: an option");
    application.parse(argc, argv);
    options.use_sudo = !*no_sudo;
    if (*directory) options.driver_folder = folder;
    if (*directory && folder.empty()) throw CLI::ValidationError("-d must name a folder");
    if (*memory) {
      options.resources.memory_mib =
          number(*memory, texts.memory, allocator::kMostMemoryMib, "an amount of memory in MiB");
    }
    if (*cpus) options.resources.cpus = cpu_list(*cpus, texts.cpus);
    if (*count) {
      options.resources.cpu_count =
          static_cast<std::uint32_t>(number(*count, texts.cpu_count, kMostCpus, "a number of CPUs"));
    }
  } catch (const CLI::ParseError& error) {
    line.status = application.exit(error, text, text) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    line.text = text.str();
    return line;
  }
  for (const CLI::Option* option : application.parse_order()) {
    if (option == build) options.actions.push_back(Action::kBuild);
    if (option == clean) options.actions.push_back(Action::kClean);
    if (option == insert) options.actions.push_back(Action::kInsert);
    if (option == remove) options.actions.push_back(Action::kRemove);
  }
  line.options = std::move(options);
  return line;
}

}  // namespace nitro::setup
