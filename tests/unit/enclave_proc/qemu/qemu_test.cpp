// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <chrono>
#include <optional>

#include "src/base/bytes.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

/// Shells stand for QEMU: what is tested is how its output and its end are told.
class QemuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
  }
  void start(const std::string& script, std::vector<int> inherited = {}) {
    Qemu::Events events;
    events.on_output = [this](std::span<const std::byte> bytes) { output_ += as_text(bytes); };
    events.on_exit = [this](ExitStatus status) { status_ = status; };
    auto qemu = Qemu::start(*loop_, {"/bin/sh", "-c", script}, std::move(inherited), std::move(events));
    ASSERT_OK(qemu);
    qemu_ = std::move(*qemu);
  }
  void run_to_the_end() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!status_ && std::chrono::steady_clock::now() < deadline) {
      EXPECT_OK(loop_->run_once(std::chrono::milliseconds(50)));
    }
    ASSERT_TRUE(status_);
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Qemu> qemu_;
  std::string output_;
  std::optional<ExitStatus> status_;
};

TEST_F(QemuTest, TellsAllOutputBeforeTheEnd) {
  ASSERT_NO_FATAL_FAILURE(start("head -c 200000 /dev/zero | tr '\\0' x; exit 3"));
  ASSERT_NO_FATAL_FAILURE(run_to_the_end());
  EXPECT_EQ(output_, std::string(200000, 'x'));
  EXPECT_EQ(status_->code, 3);
}

TEST_F(QemuTest, KeepsTheLastWordsOnly) {
  ASSERT_NO_FATAL_FAILURE(
      start("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; echo out of memory >&2; exit 1"));
  ASSERT_NO_FATAL_FAILURE(run_to_the_end());
  const std::string words = qemu_->stderr_tail();
  EXPECT_LE(words.size(), 4096U);
  EXPECT_TRUE(words.ends_with("line 2999\nout of memory"));
}

TEST_F(QemuTest, EndsWhenItIsKilled) {
  ASSERT_NO_FATAL_FAILURE(start("sleep 100"));
  EXPECT_OK(qemu_->kill());
  ASSERT_NO_FATAL_FAILURE(run_to_the_end());
  EXPECT_EQ(status_->signal, SIGKILL);
}

TEST_F(QemuTest, MayBeDestroyedWhileItRunsAndInItsOwnCallback) {
  ASSERT_NO_FATAL_FAILURE(start("sleep 100"));
  qemu_.reset();
  EXPECT_OK(loop_->run_once(std::chrono::milliseconds(0)));
  Qemu::Events events;
  bool ended = false;
  events.on_exit = [&](ExitStatus) {
    ended = true;
    qemu_.reset();
  };
  auto qemu = Qemu::start(*loop_, {"/bin/true"}, {}, std::move(events));
  ASSERT_OK(qemu);
  qemu_ = std::move(*qemu);
  for (int i = 0; i < 100 && !ended; ++i) EXPECT_OK(loop_->run_once(std::chrono::milliseconds(50)));
  EXPECT_TRUE(ended);
}

TEST_F(QemuTest, ReadsFilesWithoutNames) {
  const Fd source(::memfd_create("source", MFD_CLOEXEC));
  ASSERT_OK(write_all(source.get(), as_bytes("0123456789")));
  const BootSections::Range ranges[] = {{7, 3}, {0, 2}, {5, 0}};
  auto copy = copy_to_memory(source.get(), ranges, "ramdisks");
  ASSERT_OK(copy);
  ASSERT_NO_FATAL_FAILURE(start("cat " + inherited_path(copy->get()), {copy->get()}));
  ASSERT_NO_FATAL_FAILURE(run_to_the_end());
  EXPECT_EQ(output_, "78901");
}

TEST_F(QemuTest, NoticesAnImageThatIsTooShort) {
  const Fd source(::memfd_create("source", MFD_CLOEXEC));
  ASSERT_OK(write_all(source.get(), as_bytes("0123456789")));
  const BootSections::Range range{7, 4};
  EXPECT_FALSE(copy_to_memory(source.get(), std::span(&range, 1), "kernel"));
}

}  // namespace
}  // namespace nitro::proc
