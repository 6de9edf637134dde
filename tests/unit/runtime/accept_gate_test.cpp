// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/accept_gate.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <memory>
#include <vector>

#include "descriptor_limit.h"
#include "temp_folder.h"

namespace nitro {
namespace {

using std::chrono::milliseconds;
using testing::DescriptorLimit;

class AcceptGateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
    gate_ = std::make_unique<AcceptGate>(*loop_);
    ASSERT_OK(gate_->open(path(), 0640, [this](Fd socket) {
      taken_.push_back(std::move(socket));
      if (on_taken_) on_taken_();
    }));
  }
  std::string path() const { return folder_ / "gate"; }
  Fd client() {
    auto socket = connect_unix(path());
    EXPECT_OK(socket);
    return socket ? std::move(*socket) : Fd();
  }
  void pump() {
    for (int i = 0; i < 8; ++i) EXPECT_OK(loop_->run_once(milliseconds(0)));
  }

  testing::TempFolder folder_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<AcceptGate> gate_;
  std::vector<Fd> taken_;
  std::function<void()> on_taken_;
};

TEST_F(AcceptGateTest, TakesAllClientsThatWait) {
  std::vector<Fd> clients;
  for (int i = 0; i < 50; ++i) clients.push_back(client());
  pump();
  EXPECT_EQ(taken_.size(), 50U);
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
}

TEST_F(AcceptGateTest, LeavesTheLoopToOthersDuringAFloodOfClients) {
  std::vector<Fd> clients;
  for (int i = 0; i < 50; ++i) clients.push_back(client());
  ASSERT_OK(loop_->run_once(milliseconds(0)));
  EXPECT_GT(taken_.size(), 0U);
  EXPECT_LT(taken_.size(), 50U);
}

TEST_F(AcceptGateTest, RestsAtTheLimitOfDescriptorsAndTakesTheClientsAfterwards) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  const Fd first = client();
  const Fd second = client();
  {
    const DescriptorLimit limit;
    // One look finds that there is no descriptor; nothing is left that would wake the loop before the pause is over.
    ASSERT_OK(loop_->run_once(milliseconds(0)));
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_OK(loop_->run_once(milliseconds(-1)));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, AcceptGate::kPause / 2);
    EXPECT_TRUE(taken_.empty());
  }
  while (taken_.size() < 2) ASSERT_OK(loop_->run_once(milliseconds(-1)));
}

TEST_F(AcceptGateTest, TakesWhatTheLimitAllows) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  std::vector<Fd> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(client());
  const DescriptorLimit limit(2);
  pump();
  EXPECT_EQ(taken_.size(), 2U);
  taken_.clear();
  while (taken_.empty()) ASSERT_OK(loop_->run_once(milliseconds(-1)));
}

TEST_F(AcceptGateTest, LeavesClientsInTheBacklogWhileItIsHeld) {
  on_taken_ = [this] { gate_->hold(); };
  const Fd first = client();
  const Fd second = client();
  pump();
  EXPECT_EQ(taken_.size(), 1U);
  gate_->resume();
  pump();
  EXPECT_EQ(taken_.size(), 2U);
}

TEST_F(AcceptGateTest, MayBeHeldDuringThePause) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  const Fd socket = client();
  {
    const DescriptorLimit limit;
    ASSERT_OK(loop_->run_once(milliseconds(0)));
  }
  gate_->hold();
  ASSERT_OK(loop_->run_once(AcceptGate::kPause * 20));
  pump();
  EXPECT_TRUE(taken_.empty());
  gate_->resume();
  pump();
  EXPECT_EQ(taken_.size(), 1U);
}

TEST_F(AcceptGateTest, MayBeClosedByTheOneWhoTakesAConnection) {
  on_taken_ = [this] { gate_->close(); };
  const Fd first = client();
  const Fd second = client();
  pump();
  EXPECT_EQ(taken_.size(), 1U);
  EXPECT_EQ(folder_.entries(), 0U);
  EXPECT_FALSE(connect_unix(path()));
  char byte = 0;
  EXPECT_LE(::recv(second.get(), &byte, 1, 0), 0) << "the client that waited is turned away";
}

}  // namespace
}  // namespace nitro
