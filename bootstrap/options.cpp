// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/options.h"

#include <CLI/CLI.hpp>
#include <sstream>

#include "src/base/environment.h"
#include "src/command/arguments.h"

namespace nitro::allocator {
namespace {

constexpr int kUsageStatus = 2;
constexpr const char* kConfig = "/etc/nitro_enclaves/allocator.yaml";

}  // namespace

CommandLine parse_options(int argc, const char* const* argv) {
  CLI::App application("Sets CPUs and huge pages of this machine aside for enclaves", "nitro-enclaves-allocator");
  application.set_version_flag("-V,--version", "nitro-enclaves-allocator 1.5.0", "Print version");
  application.set_help_flag("-h,--help", "Print help");
  Options options;
  options.config = environment_variable("NITRO_CLI_INSTALL_DIR").value_or("") + kConfig;
  application.add_option("--config", options.config, "What to set aside, YAML; see allocator.yaml(5)")
      ->capture_default_str();
  bool dry_run = false;
  bool check = false;
  bool status = false;
  bool release = false;
  auto* actions = application.add_option_group("Actions", "Instead of reserving, one of:");
  actions->add_flag("--dry-run", dry_run, "Print the plan, and change nothing");
  actions->add_flag("--check", check, "Check the configuration only");
  auto* shows = actions->add_flag("--status", status, "Print what is asked for, what there is, and what is in use");
  actions->add_flag("--release", release, "Give everything back");
  actions->require_option(0, 1);
  application.add_flag("--json", options.json, "With --status: as JSON")->needs(shows);
  application.add_option("--root", options.root, "A folder with sys and run of another machine, to plan for it");
  CommandLine line;
  std::ostringstream text;
  try {
    parse_arguments(application, argc, argv);
  } catch (const CLI::ParseError& error) {
    line.status = application.exit(error, text, text) == 0 ? 0 : kUsageStatus;
    line.text = text.str();
    return line;
  }
  options.action = dry_run   ? Action::kDryRun
                   : check   ? Action::kCheck
                   : status  ? Action::kStatus
                   : release ? Action::kRelease
                             : Action::kReserve;
  line.options = std::move(options);
  return line;
}

}  // namespace nitro::allocator
