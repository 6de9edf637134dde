// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>
#include <future>
#include <numeric>
#include <random>
#include <thread>

#include "descriptor_limit.h"
#include "src/base/bytes.h"
#include "temp_folder.h"
#include "vsock_proxy/relay/pipes.h"
#include "vsock_proxy/relay/relay_loop.h"
#include "vsock_proxy/relay/relay_pool.h"
#include "vsock_proxy/sockets/socket_address.h"

namespace nitro::proxy {
namespace {

using Pair = std::pair<Fd, Fd>;

Pair unix_pair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

/// Two ends of a TCP connection.
Pair tcp_pair() {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto any = SocketAddress::of_tcp(*IpAddress::parse("127.0.0.1"), 0);
  EXPECT_EQ(any.bind(listener.get()), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  sockaddr_in own{};
  socklen_t size = sizeof own;
  EXPECT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&own), &size), 0);
  Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(SocketAddress::of_tcp(*IpAddress::parse("127.0.0.1"), ntohs(own.sin_port)).connect(client.get()), 0);
  Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(server.valid());
  return {std::move(client), std::move(server)};
}

std::vector<std::byte> random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<std::byte> bytes(size);
  std::generate(bytes.begin(), bytes.end(), [&generator] { return static_cast<std::byte>(generator() & 0xFF); });
  return bytes;
}

/// A relay on a thread of its own between two connections; the test holds the far ends, which are blocking.
class RelayTest : public ::testing::TestWithParam<Pair (*)()> {
 protected:
  void start(std::vector<std::byte> from_client = {}, std::chrono::seconds idle_time = std::chrono::seconds(0)) {
    auto pool = RelayPool::create(1, 2);
    ASSERT_OK(pool);
    pool_ = std::move(*pool);
    Pair to_client = GetParam()();
    Pair to_server = GetParam()();
    client_ = std::move(to_client.first);
    server_ = std::move(to_server.second);
    ASSERT_OK(set_nonblocking(to_client.second.get(), true));
    ASSERT_OK(set_nonblocking(to_server.first.get(), true));
    pool_->add({.client = std::move(to_client.second),
                .server = std::move(to_server.first),
                .from_client = std::move(from_client),
                .idle_time = idle_time,
                .traffic = traffic_,
                .on_end = [this](RelayEnd end) { end_.set_value(end); }});
  }
  RelayEnd end() {
    auto future = end_.get_future();
    EXPECT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
    return future.get();
  }
  bool has_ended_within(std::chrono::milliseconds time) {
    return end_.get_future().wait_for(time) == std::future_status::ready;
  }
  static std::string read_text(const Fd& socket, std::size_t size) {
    std::string text(size, '\0');
    EXPECT_OK(read_exact(socket.get(), std::as_writable_bytes(std::span(text))));
    return text;
  }
  static bool is_at_end(const Fd& socket) {
    char byte = 0;
    return ::recv(socket.get(), &byte, 1, 0) == 0;
  }

  Fd client_;
  Fd server_;
  std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
  std::promise<RelayEnd> end_;
  std::unique_ptr<RelayPool> pool_;
};

INSTANTIATE_TEST_SUITE_P(Sockets, RelayTest, ::testing::Values(&unix_pair, &tcp_pair),
                         [](const auto& kind) { return kind.param == &unix_pair ? "Unix" : "Tcp"; });

TEST_P(RelayTest, MovesBytesBothWays) {
  start();
  ASSERT_OK(write_all(client_.get(), as_bytes("question")));
  EXPECT_EQ(read_text(server_, 8), "question");
  ASSERT_OK(write_all(server_.get(), as_bytes("answer")));
  EXPECT_EQ(read_text(client_, 6), "answer");
  pool_.reset();  // bytes are counted after they were moved
  EXPECT_EQ(traffic_->to_server, 8U);
  EXPECT_EQ(traffic_->to_client, 6U);
}

TEST_P(RelayTest, BeginsWithWhatWasReadFromTheClientAlready) {
  const auto early = as_bytes("early ");
  start({early.begin(), early.end()});
  ASSERT_OK(write_all(client_.get(), as_bytes("late")));
  EXPECT_EQ(read_text(server_, 10), "early late");
  pool_.reset();
  EXPECT_EQ(traffic_->to_server, 10U);
}

TEST_P(RelayTest, PassesTheEndOfEachStreamOnByItself) {
  start();
  ASSERT_OK(write_all(client_.get(), as_bytes("request")));
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_EQ(read_text(server_, 7), "request");
  EXPECT_TRUE(is_at_end(server_));
  // The other direction lives.
  ASSERT_OK(write_all(server_.get(), as_bytes("answer")));
  EXPECT_EQ(read_text(client_, 6), "answer");
  ::shutdown(server_.get(), SHUT_WR);
  EXPECT_TRUE(is_at_end(client_));
  EXPECT_EQ(end(), RelayEnd::kClosed);
}

TEST_P(RelayTest, DeliversEverythingBeforeTheEnd) {
  start();
  const auto sent = random_bytes(10'000'000, 1);
  std::thread writer([&] {
    EXPECT_OK(write_all(client_.get(), sent));
    ::shutdown(client_.get(), SHUT_WR);
  });
  std::vector<std::byte> received(sent.size());
  EXPECT_OK(read_exact(server_.get(), received));
  writer.join();
  EXPECT_TRUE(received == sent);
  EXPECT_TRUE(is_at_end(server_));
}

TEST_P(RelayTest, HoldsLittleForASlowReceiver) {
  start();
  // Nobody reads: the relay must stop reading too.
  ASSERT_OK(set_nonblocking(client_.get(), true));
  const std::vector<std::byte> block(65536);
  std::size_t sent = 0;
  for (pollfd ready{.fd = client_.get(), .events = POLLOUT, .revents = 0}; ::poll(&ready, 1, 300) > 0;) {
    const ssize_t count = ::send(client_.get(), block.data(), block.size(), MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<std::size_t>(count);
    // Buffers of the kernel on the way, 6 MiB at most each for TCP, and the relay's.
    ASSERT_LT(sent, std::size_t{32} << 20);
  }
  std::vector<std::byte> received(sent);
  EXPECT_OK(read_exact(server_.get(), received));
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_TRUE(is_at_end(server_));
}

TEST_P(RelayTest, LetsSlowAndFastGoOnAtTheSameTime) {
  start();
  const auto down = random_bytes(3'000'000, 2);
  const auto up = random_bytes(3'000'000, 3);
  const auto send_in_pieces = [](const Fd& socket, const std::vector<std::byte>& bytes, std::size_t piece) {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      EXPECT_OK(write_all(socket.get(), std::span(bytes).subspan(at, std::min(piece, bytes.size() - at))));
    }
    ::shutdown(socket.get(), SHUT_WR);
  };
  std::vector<std::byte> down_received(down.size());
  std::vector<std::byte> up_received(up.size());
  std::thread threads[] = {std::thread([&] { send_in_pieces(client_, up, 999); }),
                           std::thread([&] { send_in_pieces(server_, down, 70'001); }),
                           std::thread([&] { EXPECT_OK(read_exact(server_.get(), up_received)); }),
                           std::thread([&] { EXPECT_OK(read_exact(client_.get(), down_received)); })};
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(up_received == up);
  EXPECT_TRUE(down_received == down);
  EXPECT_EQ(end(), RelayEnd::kClosed);
}

TEST_P(RelayTest, EndsAConnectionThatIsIdle) {
  start({}, std::chrono::seconds(1));
  EXPECT_TRUE(is_at_end(client_));
  EXPECT_EQ(end(), RelayEnd::kIdle);
}

TEST_P(RelayTest, ResetsItsConnectionsWhenThePoolEnds) {
  start();
  pool_.reset();
  EXPECT_EQ(end(), RelayEnd::kReset);
}

TEST_P(RelayTest, SaysWhetherItsThreadsAreAlive) {
  start();
  EXPECT_TRUE(pool_->check_alive());
  for (int i = 0; i < 1000 && !pool_->check_alive(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(pool_->check_alive());
}

/// errno of the next read; 0: there was something else to read.
int read_error(const Fd& socket) {
  char byte = 0;
  return ::recv(socket.get(), &byte, 1, 0) < 0 ? errno : 0;
}

class ResetTest : public RelayTest {};
INSTANTIATE_TEST_SUITE_P(Sockets, ResetTest, ::testing::Values(&tcp_pair));

TEST_P(ResetTest, IsPassedOnToTheServer) {
  start();
  reset_on_close(client_.get());
  client_.reset();
  EXPECT_EQ(read_error(server_), ECONNRESET);
  EXPECT_EQ(end(), RelayEnd::kReset);
}

TEST_P(ResetTest, IsPassedOnToTheClient) {
  start();
  reset_on_close(server_.get());
  server_.reset();
  EXPECT_EQ(read_error(client_), ECONNRESET);
  EXPECT_EQ(end(), RelayEnd::kReset);
}

TEST_P(ResetTest, IsNoticedWhileTheOtherSideIsSlow) {
  start();
  // The server takes nothing, so the relay has stopped reading from the client.
  ASSERT_OK(set_nonblocking(client_.get(), true));
  const std::vector<std::byte> block(65536);
  for (pollfd ready{.fd = client_.get(), .events = POLLOUT, .revents = 0}; ::poll(&ready, 1, 300) > 0;) {
    [[maybe_unused]] const ssize_t ignored = ::send(client_.get(), block.data(), block.size(), MSG_NOSIGNAL);
  }
  reset_on_close(client_.get());
  client_.reset();
  EXPECT_EQ(end(), RelayEnd::kReset);
}

TEST_P(ResetTest, OfAHalfClosedConnectionIsNoticed) {
  start();
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_TRUE(is_at_end(server_));
  reset_on_close(client_.get());
  client_.reset();
  EXPECT_EQ(end(), RelayEnd::kReset);
  // A read goes on to find the end of the stream that came before.
  pollfd reset{.fd = server_.get(), .events = 0, .revents = 0};
  EXPECT_EQ(::poll(&reset, 1, 10'000), 1);
  EXPECT_TRUE(reset.revents & POLLERR);
}

TEST_P(ResetTest, ComesAfterTheBytesBeforeIt) {
  start();
  const auto answer = random_bytes(100'000, 4);
  ASSERT_OK(write_all(server_.get(), answer));
  // The server closes with a byte unread, which makes a reset of its close.
  ASSERT_OK(write_all(client_.get(), as_bytes("x")));
  pollfd arrived{.fd = server_.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&arrived, 1, 10'000), 1);
  server_.reset();
  std::vector<std::byte> received(answer.size());
  EXPECT_OK(read_exact(client_.get(), received));
  EXPECT_TRUE(received == answer);
  EXPECT_EQ(read_error(client_), ECONNRESET);
}

TEST(RelayLoop, LetsOthersHaveTheirTurn) {
  const auto loop = EventLoop::create();
  ASSERT_OK(loop);
  RelayLoop relays(**loop, 1);
  // One connection with far more to move than a turn, whose bytes vanish at once, and one with a word.
  auto traffic = std::make_shared<Traffic>();
  const auto add = [&](std::vector<std::byte> early) {
    Pair client = unix_pair();
    Pair server = unix_pair();
    for (const Fd* fd : {&client.second, &server.first}) EXPECT_OK(set_nonblocking(fd->get(), true));
    relays.add({.client = std::move(client.second),
                .server = std::move(server.first),
                .from_client = std::move(early),
                .idle_time = std::chrono::seconds(0),
                .traffic = traffic,
                .on_end = {}});
    return Pair{std::move(client.first), std::move(server.second)};
  };
  const Pair busy = add({});
  const Pair brief = add({});
  std::atomic<bool> over = false;
  std::thread sender([&] {
    const std::vector<std::byte> block(1 << 20);
    while (!over && write_all(busy.first.get(), block)) {
    }
  });
  std::thread receiver([&] {
    std::vector<std::byte> block(1 << 20);
    while (::recv(busy.second.get(), block.data(), block.size(), 0) > 0) {
    }
  });
  while (traffic->to_server < 10 * RelayLoop::kBytesPerTurn)
    ASSERT_OK((*loop)->run_once(std::chrono::milliseconds(10)));
  int served = 0;
  for (; served < 100; ++served) {
    EXPECT_OK(write_all(brief.first.get(), as_bytes("x")));
    char byte = 0;
    int rounds = 0;
    while (::recv(brief.second.get(), &byte, 1, MSG_DONTWAIT) != 1 && ++rounds < 1000) {
      EXPECT_OK((*loop)->run_once(std::chrono::milliseconds(10)));
    }
    ASSERT_LT(rounds, 1000);
  }
  over = true;
  ::shutdown(busy.first.get(), SHUT_RDWR);
  ::shutdown(busy.second.get(), SHUT_RDWR);
  sender.join();
  receiver.join();
}

/// Connections that one loop relays on this thread.
class RelayLoopTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kPipes = 3;

  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
    relays_ = std::make_unique<RelayLoop>(*loop_, kPipes);
  }
  /// The far ends: client, server. They do not block.
  Pair add() {
    Pair client = unix_pair();
    Pair server = tcp_pair();
    for (const Fd* fd : {&client.first, &client.second, &server.first, &server.second})
      EXPECT_OK(set_nonblocking(fd->get(), true));
    relays_->add({.client = std::move(client.second),
                  .server = std::move(server.first),
                  .from_client = {},
                  .idle_time = std::chrono::seconds(0),
                  .traffic = traffic_,
                  .on_end = [this](RelayEnd) { ++ended_; }});
    return {std::move(client.first), std::move(server.second)};
  }
  /// Sends of `bytes` from `at` on what is taken while nobody reads.
  void send_until_full(const Fd& socket, const std::vector<std::byte>& bytes, std::size_t& at) {
    for (int full = 0; full < 3 && at < bytes.size();) {
      const ssize_t count = ::send(socket.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (count > 0) at += static_cast<std::size_t>(count);
      full = count > 0 ? 0 : full + 1;
      ASSERT_OK(loop_->run_once(std::chrono::milliseconds(1)));
    }
  }
  /// Sends `bytes` from `at` on and compares what arrives with all of them.
  void move_all(const Fd& from, const Fd& to, const std::vector<std::byte>& bytes, std::size_t at) {
    std::vector<std::byte> received(bytes.size());
    std::size_t arrived = 0;
    for (int idle = 0; arrived < bytes.size() && idle < 1000; ++idle) {
      const ssize_t sent = ::send(from.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent > 0) at += static_cast<std::size_t>(sent);
      ASSERT_OK(loop_->run_once(std::chrono::milliseconds(sent > 0 ? 0 : 1)));
      const ssize_t count = ::recv(to.get(), received.data() + arrived, received.size() - arrived, 0);
      if (count > 0) arrived += static_cast<std::size_t>(count);
      if (count > 0) idle = 0;
    }
    EXPECT_TRUE(received == bytes);
  }

  std::unique_ptr<EventLoop> loop_;
  std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
  int ended_ = 0;
  std::unique_ptr<RelayLoop> relays_;
};

TEST_F(RelayLoopTest, ServesMoreSlowReceiversThanItHasPipes) {
  const auto bytes = random_bytes(8'000'000, 5);
  std::vector<Pair> connections;
  std::vector<std::size_t> sent(kPipes + 3);
  for (std::size_t& count : sent) {
    connections.push_back(add());
    send_until_full(connections.back().first, bytes, count);
    ASSERT_LT(count, bytes.size());
  }
  // The last ones first: they found no pipe.
  for (std::size_t i = sent.size(); i-- > 0;) {
    SCOPED_TRACE(i);
    move_all(connections[i].first, connections[i].second, bytes, sent[i]);
  }
  EXPECT_EQ(ended_, 0);
}

TEST_F(RelayLoopTest, NeedsNoDescriptorsForPipes) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  const Pair connection = add();
  const testing::DescriptorLimit none;
  move_all(connection.first, connection.second, random_bytes(20'000'000, 6), 0);
  move_all(connection.second, connection.first, random_bytes(20'000'000, 7), 0);
}

TEST_F(RelayLoopTest, EndsAConnectionWhoseReceiverIsGoneWhileItHoldsBytesForIt) {
  const auto bytes = random_bytes(8'000'000, 8);
  for (const bool reset : {false, true}) {
    Pair connection = add();
    std::size_t sent = 0;
    send_until_full(connection.first, bytes, sent);
    if (reset) reset_on_close(connection.second.get());
    connection.second.reset();
    const int before = ended_;
    for (int i = 0; i < 1000 && ended_ == before; ++i) ASSERT_OK(loop_->run_once(std::chrono::milliseconds(10)));
    EXPECT_EQ(ended_, before + 1);
  }
  // The pipe that held those bytes is not used again.
  const Pair connection = add();
  move_all(connection.first, connection.second, bytes, 0);
}

TEST(Pipes, AreLentAndUsedAgain) {
  Pipes pipes(2, 65536);
  auto one = pipes.borrow();
  auto other = pipes.borrow();
  ASSERT_TRUE(one && other);
  EXPECT_FALSE(pipes.borrow());
  Pipe* const first = one.get();
  one.reset();
  EXPECT_EQ((one = pipes.borrow()).get(), first);
}

TEST(Pipes, AreNotLentAgainWithBytesInThem) {
  Pipes pipes(1, 65536);
  const Pair sockets = unix_pair();
  ASSERT_OK(write_all(sockets.first.get(), as_bytes("bytes")));
  auto pipe = pipes.borrow();
  ASSERT_TRUE(pipe);
  EXPECT_EQ(pipe->fill(sockets.second.get()), 5);
  EXPECT_EQ(pipe->held_bytes(), 5U);
  pipe.reset();
  pipe = pipes.borrow();
  ASSERT_TRUE(pipe);
  EXPECT_EQ(pipe->held_bytes(), 0U);
  ASSERT_OK(write_all(sockets.first.get(), as_bytes("others")));
  EXPECT_EQ(pipe->fill(sockets.second.get()), 6);
  EXPECT_EQ(pipe->drain(sockets.second.get()), 6);
  EXPECT_EQ(pipe->held_bytes(), 0U);
  std::string text(6, '\0');
  EXPECT_OK(read_exact(sockets.first.get(), std::as_writable_bytes(std::span(text))));
  EXPECT_EQ(text, "others");
}

TEST(Pipes, MayBeRefused) {
  // More than a pipe can have.
  Pipes pipes(1, std::size_t{3} << 30);
  EXPECT_FALSE(pipes.borrow());
}

}  // namespace
}  // namespace nitro::proxy
