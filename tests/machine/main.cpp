// SPDX-License-Identifier: Apache-2.0
// The hypervisor of the Nitro machine in QEMU; tests/machine/run starts it.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>

#include "src/runtime/program_start.h"
#include "tests/machine/hypervisor.h"

namespace nitro::machine {
namespace {

constexpr int kTimeout = 124;  // as timeout(1)

struct Options {
  HypervisorSettings hypervisor;
  double timeout_seconds = 0;
  double crash_seconds = 0;
};

Result<int> run(Options options) {
  NITRO_CHECK(prepare_program());
  raise_descriptor_limit();
  NITRO_CHECK(block_signals({SIGINT, SIGTERM, SIGHUP}));
  const auto time = [](double seconds) { return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000)); };
  if (options.crash_seconds > 0) options.hypervisor.crash_after = time(options.crash_seconds);
  NITRO_TRY(const auto loop, EventLoop::create());
  int ending = EXIT_SUCCESS;
  const auto end = [&loop, &ending](int status) {
    ending = status;
    loop->stop();
  };
  NITRO_TRY(const auto signals,
            loop->watch_signals({SIGINT, SIGTERM, SIGHUP}, [&end](int signal) { end(128 + signal); }));
  EventLoop::Watch timer;
  if (options.timeout_seconds > 0) timer = loop->watch_timer(time(options.timeout_seconds), [&end] { end(kTimeout); });
  NITRO_TRY(const auto hypervisor,
            Hypervisor::start(*loop, std::move(options.hypervisor), [&end](const ExitStatus& status) {
              if (!status.success()) std::cerr << "the parent instance's QEMU " << status.to_string() << '\n';
              end(status.success() ? EXIT_SUCCESS : EXIT_FAILURE);
            }));
  NITRO_CHECK(loop->run());
  return ending;
}

int main(int argc, char** argv) {
  CLI::App application("The hypervisor of a Nitro machine: runs a parent instance and its enclaves in QEMU");
  Options options;
  HypervisorSettings& settings = options.hypervisor;
  const std::map<std::string, EnclaveStart> starts{{"boot", EnclaveStart::kBoot},
                                                   {"beat", EnclaveStart::kBeat},
                                                   {"silent", EnclaveStart::kSilent},
                                                   {"wrong", EnclaveStart::kWrong}};
  application.add_option("--folder", settings.folder, "Gets the device's trace and the consoles")->required();
  application.add_option("--qemu", settings.qemu, "QEMU with the machine nitro-enclave")->required();
  application.add_option("--firmware", settings.firmware_folders, "A folder with firmware for QEMU")
      ->allow_extra_args(false);
  application.add_option("--enclave", settings.start, "What happens when an enclave is started")
      ->transform(CLI::CheckedTransformer(starts));
  application.add_option("--crash", options.crash_seconds, "Ends each enclave after that many seconds");
  application.add_option("--timeout", options.timeout_seconds, "Ends everything after that many seconds");
  application.add_option("parent", settings.parent, "After --: the QEMU of the parent instance and its arguments")
      ->required();
  CLI11_PARSE(application, argc, argv);
  const auto result = run(std::move(options));
  if (result) return *result;
  std::cerr << "Error: " << result.error().message() << '\n';
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace nitro::machine

int main(int argc, char** argv) {
  try {
    return nitro::machine::main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "Error: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
