// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/sockets/dial.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "temp_folder.h"
#include "vsock_proxy/sockets/listen.h"

namespace nitro::proxy {
namespace {

using std::chrono::milliseconds;

class DialTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
  }

  /// A socket of the loopback that listens; its address.
  SocketAddress listen(const std::string& address) {
    const auto ip = *IpAddress::parse(address);
    Fd socket = SocketAddress::of_tcp(ip, 0).new_socket();
    EXPECT_EQ(SocketAddress::of_tcp(ip, 0).bind(socket.get()), 0);
    EXPECT_EQ(::listen(socket.get(), 16), 0);
    const auto own = SocketAddress::own_of(socket.get());
    listeners_.push_back(std::move(socket));
    return *own;
  }
  /// An address of the loopback that refuses connections.
  SocketAddress closed() {
    const SocketAddress address = listen("127.0.0.1");
    listeners_.pop_back();
    return address;
  }
  /// An address that does not answer: its backlog is full, so SYNs are dropped.
  SocketAddress silent() {
    const auto ip = *IpAddress::parse("127.0.0.1");
    Fd socket = SocketAddress::of_tcp(ip, 0).new_socket();
    EXPECT_EQ(SocketAddress::of_tcp(ip, 0).bind(socket.get()), 0);
    EXPECT_EQ(::listen(socket.get(), 0), 0);
    const auto own = *SocketAddress::own_of(socket.get());
    listeners_.push_back(std::move(socket));
    for (int i = 0; i < 4; ++i) {
      listeners_.push_back(own.new_socket());
      [[maybe_unused]] const int ignored = own.connect(listeners_.back().get());
    }
    return own;
  }

  Result<Dial::Connected> dial(std::vector<SocketAddress> addresses, milliseconds limit = milliseconds(5000)) {
    std::optional<Result<Dial::Connected>> result;
    Dial dial(*loop_, std::move(addresses), limit,
              [&result](Result<Dial::Connected> connected) { result.emplace(std::move(connected)); });
    dial.start();
    while (!result) EXPECT_OK(loop_->run_once(milliseconds(10)));
    return std::move(*result);
  }

  std::unique_ptr<EventLoop> loop_;
  std::vector<Fd> listeners_;
};

TEST_F(DialTest, ConnectsToTheFirstAddressThatAnswers) {
  const auto good = listen("127.0.0.1");
  const auto connected = dial({closed(), closed(), good});
  ASSERT_OK(connected);
  EXPECT_EQ(connected->address.text(), good.text());
}

TEST_F(DialTest, DoesNotWaitForAnAddressThatIsSilent) {
  const auto good = listen("127.0.0.1");
  const auto begin = std::chrono::steady_clock::now();
  const auto connected = dial({silent(), good});
  ASSERT_OK(connected);
  EXPECT_EQ(connected->address.text(), good.text());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(3000));
}

TEST_F(DialTest, TriesTheOtherFamilyNext) {
  const auto good = listen("::1");
  // Three silent ones of IPv4 would take three head starts.
  const auto connected = dial({silent(), silent(), silent(), good});
  ASSERT_OK(connected);
  EXPECT_EQ(connected->address.text(), good.text());
}

TEST_F(DialTest, SaysWhatEachAddressSaid) {
  const auto one = closed();
  const auto other = closed();
  const auto connected = dial({one, other});
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().message(), one.text() + ": Connection refused; " + other.text() + ": Connection refused");
  EXPECT_EQ(connected.error().system_errno(), ECONNREFUSED);
}

TEST_F(DialTest, EndsAtItsLimit) {
  const auto address = silent();
  const auto connected = dial({address}, milliseconds(300));
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().message(), address.text() + ": no answer");
  EXPECT_EQ(connected.error().system_errno(), ETIMEDOUT);
}

TEST_F(DialTest, WaitsForAPlaceInTheBacklogOfAUnixSocket) {
  const testing::TempFolder folder;
  const std::string path = folder / "s";
  Fd listener = SocketAddress::of_unix(path).new_socket();
  ASSERT_EQ(SocketAddress::of_unix(path).bind(listener.get()), 0);
  ASSERT_EQ(::listen(listener.get(), 0), 0);
  const Fd first = SocketAddress::of_unix(path).new_socket();
  ASSERT_EQ(SocketAddress::of_unix(path).connect(first.get()), 0);
  std::optional<Result<Dial::Connected>> result;
  Dial dial(*loop_, {SocketAddress::of_unix(path)}, milliseconds(5000),
            [&result](Result<Dial::Connected> connected) { result.emplace(std::move(connected)); });
  dial.start();
  for (int i = 0; i < 5; ++i) ASSERT_OK(loop_->run_once(milliseconds(10)));
  EXPECT_FALSE(result);
  const Fd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  while (!result) ASSERT_OK(loop_->run_once(milliseconds(10)));
  EXPECT_OK(*result);
}

TEST_F(DialTest, MayBeDestroyedAnyTime) {
  Dial dial(*loop_, {silent()}, milliseconds(50), [](const Result<Dial::Connected>&) { FAIL(); });
  dial.start();
}

std::string fault_of(const Endpoint& endpoint) {
  const auto listener = listen_on(endpoint, 0600);
  return listener ? "it listens" : listener.error().message();
}

TEST_F(DialTest, ListeningSaysWhoIsInTheWay) {
  const auto taken = listen("127.0.0.1");
  const auto port = static_cast<std::uint16_t>(std::stoi(taken.text().substr(taken.text().rfind(':') + 1)));
  EXPECT_EQ(
      fault_of(Endpoint::of_tcp("127.0.0.1", port)),
      "listening on tcp:" + taken.text() +
          ": Address already in use: another program listens there (ss --tcp --listening --processes shows which)");
  EXPECT_EQ(fault_of(Endpoint::of_tcp("192.0.2.1", 80)),
            "listening on tcp:192.0.2.1:80: Cannot assign requested address: this machine does not have that address");
}

TEST_F(DialTest, ListeningReplacesAUnixSocketThatNobodyUses) {
  const testing::TempFolder folder;
  const Endpoint endpoint = Endpoint::of_unix(folder / "s");
  {
    auto listener = listen_on(endpoint, 0640);
    ASSERT_OK(listener);
    EXPECT_TRUE(listens_at(listener->socket.get(), endpoint));
    EXPECT_FALSE(listens_at(listener->socket.get(), Endpoint::of_unix(folder / "t")));
    EXPECT_NE(fault_of(endpoint).find("Address already in use"), std::string::npos);
    listener->path.release();
  }
  const auto again = listen_on(endpoint, 0640);
  EXPECT_OK(again);
}

}  // namespace
}  // namespace nitro::proxy
