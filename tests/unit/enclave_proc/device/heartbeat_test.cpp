// SPDX-License-Identifier: Apache-2.0
// The wait for the heartbeat, with a Unix socket in the place of the vsock one.
#include "enclave_proc/device/heartbeat.h"

#include <sys/socket.h>

#include <optional>

#include "enclave_proc/machine/machine.h"
#include "src/base/bytes.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;

class HeartbeatTest : public ::testing::Test {
 protected:
  void SetUp() override {
    loop_ = EventLoop::create().value();
    auto listener = listen_unix(path(), 0600).value();
    name_ = std::move(listener.path);
    heartbeat_ = Heartbeat::wait(*loop_, std::move(listener.fd), [this](int) { return of_enclave_; },
                                 {.on_beat =
                                      [this] {
                                        ++beats_;
                                        heartbeat_.reset();
                                      },
                                  .on_failure =
                                      [this](const std::string& reason) {
                                        ++failures_;
                                        reason_ = reason;
                                        heartbeat_.reset();
                                      }})
                     .value();
  }

  std::string path() const { return folder_ / "s"; }

  /// Lets the loop do what there is to do: what was sent to a Unix socket is there at once.
  void turn() {
    for (int i = 0; i < 5; ++i) EXPECT_OK(loop_->run_once(0ms));
  }

  static void send_byte(int fd, unsigned char byte) { EXPECT_EQ(::send(fd, &byte, 1, MSG_NOSIGNAL), 1); }

  /// What comes back: the byte, nothing when the connection has been closed.
  static std::optional<unsigned char> answer(int fd) {
    unsigned char byte = 0;
    const ssize_t count = ::recv(fd, &byte, 1, MSG_DONTWAIT);
    EXPECT_GE(count, 0) << "the connection is still open and says nothing";
    return count == 1 ? std::optional(byte) : std::nullopt;
  }

  testing::TempFolder folder_;
  std::unique_ptr<EventLoop> loop_;
  SocketPath name_;
  std::unique_ptr<Heartbeat> heartbeat_;
  bool of_enclave_ = true;
  int beats_ = 0;
  int failures_ = 0;
  std::string reason_;
};

TEST_F(HeartbeatTest, IsAnsweredWithTheSameByteAndTheConnectionEnds) {
  const Fd enclave = connect_unix(path()).value();
  turn();
  EXPECT_EQ(beats_, 0);
  send_byte(enclave.get(), 0xb7);
  turn();
  EXPECT_EQ(beats_, 1);
  EXPECT_EQ(failures_, 0);
  EXPECT_EQ(answer(enclave.get()), 0xb7);
  EXPECT_EQ(answer(enclave.get()), std::nullopt);
}

TEST_F(HeartbeatTest, IsNotWaitedForAnyMoreOnceItHasCome) {
  const Fd enclave = connect_unix(path()).value();
  send_byte(enclave.get(), 0xb7);
  turn();
  EXPECT_EQ(beats_, 1);
  EXPECT_FALSE(connect_unix(path()));
}

TEST_F(HeartbeatTest, OfAnotherValueIsAFailureAndIsNotAnswered) {
  const Fd enclave = connect_unix(path()).value();
  send_byte(enclave.get(), 0x42);
  turn();
  EXPECT_EQ(beats_, 0);
  EXPECT_EQ(failures_, 1);
  EXPECT_NE(reason_.find("0x42"), std::string::npos) << reason_;
  EXPECT_EQ(answer(enclave.get()), std::nullopt);
}

TEST_F(HeartbeatTest, ThatIsAClosedConnectionIsAFailure) {
  { const Fd enclave = connect_unix(path()).value(); }
  turn();
  EXPECT_EQ(beats_, 0);
  EXPECT_EQ(failures_, 1);
}

TEST_F(HeartbeatTest, IsDecidedByTheFirstConnection) {
  const Fd first = connect_unix(path()).value();
  const Fd second = connect_unix(path()).value();
  send_byte(second.get(), 0xb7);
  turn();
  EXPECT_EQ(beats_ + failures_, 0);
  send_byte(first.get(), 0xb7);
  turn();
  EXPECT_EQ(beats_, 1);
}

TEST_F(HeartbeatTest, OfAnotherThanTheEnclaveIsClosedAndDecidesNothing) {
  of_enclave_ = false;
  const Fd other = connect_unix(path()).value();
  send_byte(other.get(), 0x42);
  turn();
  EXPECT_EQ(beats_ + failures_, 0);
  of_enclave_ = true;
  const Fd enclave = connect_unix(path()).value();
  send_byte(enclave.get(), 0xb7);
  turn();
  EXPECT_EQ(beats_, 1);
  EXPECT_EQ(failures_, 0);
}

TEST(HeartbeatSource, IsTheCidOfAVsockAddressAndNothingElse) {
  const auto pair = make_socket_pair().value();
  EXPECT_FALSE(Heartbeat::from_cid(0)(pair.first.get()));
}

TEST_F(HeartbeatTest, IsWaitedForWithoutBlockingTheLoop) {
  int ticks = 0;
  const auto timer = loop_->watch_timer(
      1ms, [&ticks] { ++ticks; }, true);
  const Fd enclave = connect_unix(path()).value();
  turn();
  while (ticks < 3) ASSERT_OK(loop_->run_once(-1ms));
  EXPECT_EQ(beats_ + failures_, 0);
}

TEST_F(HeartbeatTest, IsForgottenWhenTheWaitIsDestroyed) {
  const Fd enclave = connect_unix(path()).value();
  send_byte(enclave.get(), 0xb7);
  heartbeat_.reset();
  turn();
  EXPECT_EQ(beats_ + failures_, 0);
}

}  // namespace
}  // namespace nitro::proc
