// SPDX-License-Identifier: Apache-2.0
// The whole machine, over the stand-in. What it asks for, case by case, is compared in tests/integration/device.
#include "enclave_proc/device/device_enclave.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <thread>

#include "nitro/fd.h"
#include "tests/unit/enclave_proc/device/standin.h"

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;
using testing::Standin;

RunRequest tiny_request() {
  RunRequest request;
  request.eif_path = std::string(NITRO_TEST_DATA) + "/golden/eif/tiny/image.eif";
  request.memory = MemorySize::from_mib(64);
  request.cpus = 1U;
  return request;
}

Result<std::unique_ptr<Machine>> make_enclave(const RunRequest& request) {
  return make_device_enclave(request, open_regular_file(request.eif_path));
}

class NitroEnclaveTest : public ::testing::Test {
 protected:
  void SetUp() override { loop_ = EventLoop::create().value(); }

  MachineEvents events() {
    return {.on_heartbeat = [this] { ++heartbeats_; },
            .on_end =
                [this](const std::string& reason) {
                  ++ends_;
                  reason_ = reason;
                }};
  }

  /// Runs the loop until it is so; a minute means that it never will be.
  template <class Condition>
  bool run_until(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!condition() && std::chrono::steady_clock::now() < end) EXPECT_OK(loop_->run_once(10ms));
    return condition();
  }

  /// Waits for a line of the trace while nobody runs the loop.
  static bool wait_for(const Standin& standin, const std::string& line) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (std::chrono::steady_clock::now() < end) {
      const auto trace = standin.trace();
      if (std::find(trace.begin(), trace.end(), line) != trace.end()) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }

  /// Delivers what has come already.
  void turn() {
    for (int i = 0; i < 5; ++i) EXPECT_OK(loop_->run_once(0ms));
  }

  static void expect_everything_back() {
    EXPECT_EQ(nitro_device_free_pages(2), 1024U);
    EXPECT_EQ(nitro_device_free_cpus(), 3U);
  }

  std::unique_ptr<EventLoop> loop_;
  int heartbeats_ = 0;
  int ends_ = 0;
  std::string reason_;
};

TEST_F(NitroEnclaveTest, TellsWhatItGotAndThatItHasBooted) {
  const Standin standin;
  RunRequest request = tiny_request();
  request.memory = MemorySize::from_mib(67);
  request.cpus = 2U;
  auto machine = make_enclave(request).value();
  const auto resources = machine->start(*loop_, events());
  ASSERT_OK(resources);
  EXPECT_EQ(resources->enclave_cid, 16U);
  EXPECT_EQ(resources->cpu_ids, (std::vector<std::uint32_t>{1, 2}));
  EXPECT_EQ(resources->memory.mib(), 68U);
  EXPECT_NE(resources->slot_uid, 0U);
  EXPECT_EQ(machine->boot_timeout(), 180s);
  EXPECT_TRUE(run_until([this] { return heartbeats_ == 1; }));
  EXPECT_EQ(ends_, 0);
  EXPECT_OK(machine->stop());
  EXPECT_OK(machine->stop());
  expect_everything_back();
}

TEST(BootTimeout, GrowsWithTheImageAndTheMemory) {
  EXPECT_EQ(boot_timeout_for(1, 1), 180s);
  EXPECT_EQ(boot_timeout_for(6 * kGiB, 100 * kGiB), 180s);
  EXPECT_EQ(boot_timeout_for(6 * kGiB + 1, 100 * kGiB), 270s);
  EXPECT_EQ(boot_timeout_for(6 * kGiB, 100 * kGiB + 1), 270s);
  EXPECT_EQ(boot_timeout_for(13 * kGiB, 350 * kGiB), 630s);
}

TEST_F(NitroEnclaveTest, TellsItsEndOnce) {
  const Standin standin({{"NITRO_DEVICE_CRASH_AFTER", "0.2"}});
  auto machine = make_enclave(tiny_request()).value();
  ASSERT_OK(machine->start(*loop_, events()));
  EXPECT_TRUE(run_until([this] { return ends_ > 0; }));
  EXPECT_EQ(heartbeats_, 1);
  // The descriptor goes on to report its end.
  turn();
  EXPECT_EQ(ends_, 1);
  machine.reset();
  expect_everything_back();
}

TEST_F(NitroEnclaveTest, TellsNothingAfterItWasStopped) {
  // Something has happened that the loop has not delivered yet: the enclave's end, a wrong heartbeat.
  const std::vector<std::pair<const char*, const char*>> cases = {{"none", "ENCLAVE crashed"},
                                                                  {"hangup", "HEARTBEAT sent nothing"}};
  for (const auto& [heartbeat, line] : cases) {
    const Standin standin({{"NITRO_DEVICE_CRASH_AFTER", "0.01"}, {"NITRO_DEVICE_HEARTBEAT", heartbeat}});
    auto machine = make_enclave(tiny_request()).value();
    ASSERT_OK(machine->start(*loop_, events()));
    ASSERT_TRUE(wait_for(standin, line)) << line;
    EXPECT_OK(machine->stop());
    turn();
    EXPECT_EQ(heartbeats_ + ends_, 0) << line;
  }
}

TEST_F(NitroEnclaveTest, EndsWithAWrongHeartbeat) {
  const Standin standin({{"NITRO_DEVICE_HEARTBEAT", "wrong"}});
  auto machine = make_enclave(tiny_request()).value();
  ASSERT_OK(machine->start(*loop_, events()));
  EXPECT_TRUE(run_until([this] { return ends_ == 1; }));
  EXPECT_EQ(heartbeats_, 0);
  EXPECT_NE(reason_.find("0x42"), std::string::npos);
}

TEST_F(NitroEnclaveTest, GivesEverythingBackWhenACallFails) {
  for (const char* plan : {"GET_IMAGE_LOAD_INFO=274", "SET_USER_MEMORY_REGION=263", "SET_USER_MEMORY_REGION@20=265",
                           "ADD_VCPU=272", "VSOCK=99", "START=269"}) {
    const Standin standin({{"NITRO_DEVICE_FAIL", plan}});
    auto machine = make_enclave(tiny_request()).value();
    const auto resources = machine->start(*loop_, events());
    EXPECT_FALSE(resources) << plan;
    // The machine itself still exists: what a failed start() took went back by itself.
    expect_everything_back();
  }
  EXPECT_EQ(heartbeats_ + ends_, 0);
}

TEST_F(NitroEnclaveTest, StartsNothingMoreOnceTheLoopWasStopped) {
  const auto count = [](const std::vector<std::string>& trace, std::string_view call) {
    return std::count_if(trace.begin(), trace.end(),
                         [call](const std::string& line) { return line.starts_with(call); });
  };
  // The loop is stopped by an event that comes when this many of these calls have been made.
  const std::vector<std::pair<std::string, std::ptrdiff_t>> cases = {{"GET_IMAGE_LOAD_INFO", 1},
                                                                     {"SET_USER_MEMORY_REGION", 3},
                                                                     {"SET_USER_MEMORY_REGION", 32},
                                                                     {"ADD_VCPU", 1},
                                                                     {"ADD_VCPU", 2}};
  for (const auto& [call, calls] : cases) {
    const Standin standin;
    loop_ = EventLoop::create().value();
    RunRequest request = tiny_request();
    request.cpus = 2U;
    auto machine = make_enclave(request).value();
    // Readable all the time: an event of each round.
    const Fd always(::eventfd(1, EFD_CLOEXEC));
    const auto watch = loop_->watch_fd(always.get(), EPOLLIN, [&](std::uint32_t) {
      if (count(standin.trace(), call) == calls) loop_->stop();
    });
    const auto resources = machine->start(*loop_, events());
    ASSERT_FALSE(resources) << call;
    EXPECT_EQ(resources.error().code(), ErrorCode::kEnclaveBoot) << call;
    EXPECT_TRUE(standin.trace().back().starts_with(call)) << standin.trace().back();
    EXPECT_EQ(count(standin.trace(), call), calls) << call;
    expect_everything_back();
  }
  EXPECT_EQ(heartbeats_ + ends_, 0);
}

TEST_F(NitroEnclaveTest, ChecksInTheOrderThatUsersKnow) {
  // Each request has its own fault and those of all later ones.
  const Standin standin({{"NITRO_DEVICE_FAIL", "OPEN=2"}});
  RunRequest request = tiny_request();
  request.eif_path = standin / "none.eif";
  request.cpus = 9U;
  request.memory = MemorySize::from_mib(0);
  EXPECT_EQ(make_enclave(request).error().message().find("opening \"" + request.eif_path), 0U);
  testing::write_file(request.eif_path, "this is no image");
  EXPECT_EQ(make_enclave(request).error().code(), ErrorCode::kInsufficientCpus);
  request.cpus = 1U;
  EXPECT_EQ(make_enclave(request).error().code(), ErrorCode::kInsufficientMemoryRequested);
  request.memory = MemorySize::from_mib(64);
  EXPECT_EQ(make_enclave(request).error().code(), ErrorCode::kFileOperation);
  const testing::ScopedEnvironment device_is_there("NITRO_DEVICE_FAIL", "");
  nitro_device_reset();
  EXPECT_EQ(make_enclave(request).error().code(), ErrorCode::kSignatureChecker);
}

TEST_F(NitroEnclaveTest, TakesOnlyPagesOfTheSizeThatWasAskedFor) {
  const Standin standin({{"NITRO_DEVICE_PAGES_1G", "1"}});
  RunRequest request = tiny_request();
  request.hugepage_size = MemorySize::from_mib(1024);
  auto machine = make_enclave(request).value();
  EXPECT_EQ(machine->start(*loop_, events()).value().memory.mib(), 1024U);
}

// What users saw was that the pool is empty, which leads to the allocator, and no further.
TEST_F(NitroEnclaveTest, SaysWhyThePoolOfADriverWithoutADeviceIsEmpty) {
  const testing::TempFolder machine;
  std::filesystem::create_directories(machine / "sys/module/nitro_enclaves/parameters");
  std::filesystem::create_directories(machine / "sys/bus/pci/devices");
  testing::write_file(machine / "sys/module/nitro_enclaves/parameters/ne_cpus", "\n");
  const KernelFiles files{.root = machine.path()};
  const auto why = [&files] {
    const RunRequest request = tiny_request();
    return make_device_enclave(request, open_regular_file(request.eif_path), files).error();
  };
  EXPECT_EQ(why().code(), ErrorCode::kInsufficientCpus);
  EXPECT_NE(why().message().find("the pool for enclaves is empty: this machine is not an EC2 instance"),
            std::string::npos)
      << why().message();
  std::filesystem::create_directories(machine / "dev");
  testing::write_file(machine / "dev/nitro_enclaves", "");
  EXPECT_TRUE(why().message().ends_with("the pool for enclaves is empty")) << why().message();
}

}  // namespace
}  // namespace nitro::proc
