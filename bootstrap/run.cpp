// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/run.h"

#include <fmt/format.h>

#include <iostream>

#include "bootstrap/allocator/allocation.h"
#include "bootstrap/change.h"
#include "bootstrap/options.h"
#include "bootstrap/report.h"
#include "src/base/memory_size.h"
#include "src/command/output.h"
#include "src/command/program.h"

namespace nitro::allocator {
namespace {

Result<void> reserve(const Options& options, Kernel& kernel, const Record& record) {
  NITRO_TRY(const AllocatorConfig config, load_allocator_config(options.config));
  const Progress progress{.say = [](const std::string& text) { std::cout << text << std::endl; },
                          .warn = [](const std::string& text) { std::cerr << "Warning: " << text << "\n"; },
                          .is_cancelled = is_asked_to_end};
  NITRO_TRY(const Reservation done, allocate(config, kernel, record, progress));
  std::cout << fmt::format("{} for enclaves on {}\n", done.was_there ? "Already reserved" : "Reserved", text_of(done));
  if (done.missing_cpus > 0 || done.missing_bytes > 0) {
    std::cerr << fmt::format("Warning: {} CPUs and {} MiB less than {} asks for\n", done.missing_cpus,
                             MemorySize::from_bytes(done.missing_bytes).mib(), options.config);
  }
  return {};
}

Result<void> show_plan(const Options& options, const Kernel& kernel) {
  NITRO_TRY(const AllocatorConfig config, load_allocator_config(options.config));
  NITRO_TRY(const Topology topology, kernel.topology());
  if (topology.cpu_pool && !topology.cpu_pool->empty()) {
    std::cout
        << "CPUs that enclaves own now are not in this plan: which cores they form only shows when they are back\n";
  }
  NITRO_TRY(const auto plans, make_plans(config, topology));
  for (std::size_t i = 0; i < plans.size(); ++i)
    std::cout << (i == 0 ? "" : "If there is not enough memory on it, ") << text_of(plans[i]) << "\n";
  return {};
}

Result<void> show_status(const Options& options, const Kernel& kernel) {
  NITRO_TRY(Topology topology, kernel.topology());
  const Status status{
      .config = load_allocator_config(options.config), .topology = std::move(topology), .enclaves = running_enclaves()};
  if (options.json) {
    print_json(std::cout, json_of(status));
  } else {
    std::cout << text_of(status);
  }
  return {};
}

Result<void> act(const Options& options) {
  Kernel kernel(KernelFiles{.root = options.root});
  switch (options.action) {
    case Action::kCheck: {
      NITRO_TRY(const AllocatorConfig config, load_allocator_config(options.config));
      std::cout << fmt::format("{} is valid\n", options.config);
      return {};
    }
    case Action::kDryRun:
      return show_plan(options, kernel);
    case Action::kStatus:
      return show_status(options, kernel);
    case Action::kReserve:
    case Action::kRelease:
      break;
  }
  NITRO_TRY(const Record record, begin_change(options.root));
  if (options.action == Action::kReserve) return reserve(options, kernel, record);
  NITRO_CHECK(release(kernel, record));
  std::cout << "Nothing is reserved for enclaves any more\n";
  return {};
}

}  // namespace

int run(int argc, char** argv) {
  const CommandLine line = parse_options(argc, argv);
  if (!line.options) {
    (line.status == 0 ? std::cout : std::cerr) << line.text;
    return line.status;
  }
  if (auto done = act(*line.options); !done) return fail_with(explained(done.error()));
  return finish_output();
}

}  // namespace nitro::allocator
