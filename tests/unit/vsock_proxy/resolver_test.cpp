// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/names/resolver.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include <fstream>
#include <map>
#include <thread>

#include "temp_folder.h"
#include "vsock_proxy/sockets/socket_address.h"

namespace nitro::proxy {
namespace {

using std::chrono::milliseconds;

/// A name server on the test's loop: answers questions for A and AAAA from a table (RFC 1035, section 4).
class NameServer {
 public:
  struct Entry {
    std::vector<std::string> addresses;
    std::uint32_t seconds_to_live = 60;
    bool silent = false;
  };

  explicit NameServer(EventLoop& loop) {
    socket_ = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(SocketAddress::of_tcp(*IpAddress::parse("127.0.0.1"), 0).bind(socket_.get()), 0);
    auto watch = loop.watch_fd(socket_.get(), EPOLLIN, [this](std::uint32_t) { answer(); });
    EXPECT_OK(watch);
    watch_ = std::move(*watch);
  }

  std::string address() const { return SocketAddress::own_of(socket_.get())->text(); }
  std::map<std::string, Entry> entries;
  int questions = 0;  // for A

 private:
  void answer() {
    std::array<std::uint8_t, 512> query{};
    sockaddr_storage peer{};
    socklen_t peer_size = sizeof peer;
    const ssize_t size =
        ::recvfrom(socket_.get(), query.data(), query.size(), 0, reinterpret_cast<sockaddr*>(&peer), &peer_size);
    if (size < 17) return;
    std::string name;
    std::size_t at = 12;
    while (query.at(at) != 0) {
      if (!name.empty()) name += '.';
      name.append(reinterpret_cast<const char*>(&query.at(at + 1)), query.at(at));
      at += query.at(at) + 1U;
    }
    const unsigned type = query.at(at + 2);
    if (type == 1) ++questions;
    const auto found = entries.find(name);
    if (found != entries.end() && found->second.silent) return;
    std::vector<std::uint8_t> reply(query.begin(), query.begin() + static_cast<std::ptrdiff_t>(at) + 5);
    reply[2] = 0x81;
    reply[3] = found == entries.end() ? 0x83 : 0x80;  // no such name; no error
    reply[7] = 0;
    reply[9] = reply[10] = reply[11] = 0;
    if (found != entries.end()) {
      for (const std::string& text : found->second.addresses) {
        const auto address = *IpAddress::parse(text);
        if (address.is_v4() != (type == 1)) continue;
        ++reply[7];
        const std::uint32_t ttl = found->second.seconds_to_live;
        reply.insert(reply.end(),
                     {0xC0, 0x0C, 0, static_cast<std::uint8_t>(type), 0, 1, static_cast<std::uint8_t>(ttl >> 24),
                      static_cast<std::uint8_t>(ttl >> 16), static_cast<std::uint8_t>(ttl >> 8),
                      static_cast<std::uint8_t>(ttl), 0, static_cast<std::uint8_t>(address.is_v4() ? 4 : 16)});
        const in_addr v4 = address.is_v4() ? address.v4() : in_addr{};
        const in6_addr v6 = address.is_v4() ? in6_addr{} : address.v6();
        const auto* bytes = address.is_v4() ? reinterpret_cast<const std::uint8_t*>(&v4) : v6.s6_addr;
        reply.insert(reply.end(), bytes, bytes + (address.is_v4() ? 4 : 16));
      }
    }
    ::sendto(socket_.get(), reply.data(), reply.size(), 0, reinterpret_cast<const sockaddr*>(&peer), peer_size);
  }

  Fd socket_;
  EventLoop::Watch watch_;
};

class ResolverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
    server_ = std::make_unique<NameServer>(*loop_);
    start({.servers = server_->address(), .resolv_conf = {}, .try_time = milliseconds(100), .tries = 2});
  }
  void start(Resolver::Settings settings) {
    auto resolver = Resolver::create(*loop_, std::move(settings));
    ASSERT_OK(resolver);
    resolver_ = std::move(*resolver);
  }
  std::string resolve(const std::string& host, Family family = Family::kAny) {
    std::optional<std::string> answer;
    const auto query = resolver_->resolve(host, family, [&answer](const Result<Resolver::Addresses>& result) {
      answer.emplace();
      if (!result) *answer = result.error().message();
      for (std::size_t i = 0; result && i < result->size(); ++i) *answer += (i > 0 ? " " : "") + (*result)[i].text();
    });
    EXPECT_FALSE(answer) << "not before resolve() has returned";
    while (!answer) EXPECT_OK(loop_->run_once(milliseconds(10)));
    return *answer;
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<NameServer> server_;
  std::unique_ptr<Resolver> resolver_;
};

TEST_F(ResolverTest, NeedsNoServerForAddresses) {
  EXPECT_EQ(resolve("10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(resolve("2001:db8::1", Family::kV6), "2001:db8::1");
  EXPECT_EQ(resolve("2001:db8::1", Family::kV4), "2001:db8::1 is not an address of the family that is allowed");
  EXPECT_EQ(server_->questions, 0);
}

TEST_F(ResolverTest, KnowsTheNamesOfThisMachine) {
  EXPECT_EQ(resolve("localhost", Family::kV4), "127.0.0.1");
}

TEST_F(ResolverTest, AsksOnceWhileAnAnswerIsValid) {
  server_->entries["a.example"] = {.addresses = {"192.0.2.1", "192.0.2.2"}};
  for (int i = 0; i < 3; ++i) {
    const std::string answer = resolve("a.example", Family::kV4);
    EXPECT_TRUE(answer == "192.0.2.1 192.0.2.2" || answer == "192.0.2.2 192.0.2.1") << answer;
  }
  EXPECT_EQ(server_->questions, 1);
}

TEST_F(ResolverTest, AsksForTheFamiliesThatAreAllowed) {
  server_->entries["a.example"] = {.addresses = {"192.0.2.1", "2001:db8::1"}};
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.1");
  EXPECT_EQ(resolve("a.example", Family::kV6), "2001:db8::1");
  const std::string any = resolve("a.example");
  EXPECT_NE(any.find("192.0.2.1"), std::string::npos);
  EXPECT_NE(any.find("2001:db8::1"), std::string::npos);
  server_->entries["b.example"] = {.addresses = {"192.0.2.1"}};
  EXPECT_EQ(resolve("b.example", Family::kV6),
            "the name \"b.example\" cannot be resolved: the name has no address of an allowed family");
}

TEST_F(ResolverTest, AsksAgainWhenTheTimeToLiveIsOver) {
  server_->entries["a.example"] = {.addresses = {"192.0.2.1"}, .seconds_to_live = 1};
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.1");
  server_->entries["a.example"].addresses = {"192.0.2.2"};
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.1");
  std::this_thread::sleep_for(milliseconds(1100));
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.2");
}

TEST_F(ResolverTest, SharesAQueryThatIsUnderWay) {
  server_->entries["a.example"] = {.addresses = {"192.0.2.1"}};
  int answers = 0;
  std::vector<Resolver::Query> queries;
  for (int i = 0; i < 100; ++i) {
    queries.push_back(
        resolver_->resolve("a.example", Family::kV4, [&answers](const Result<Resolver::Addresses>& result) {
          EXPECT_OK(result);
          ++answers;
        }));
  }
  queries.pop_back();  // this one is no longer interested
  while (answers < 99) EXPECT_OK(loop_->run_once(milliseconds(10)));
  for (int i = 0; i < 3; ++i) EXPECT_OK(loop_->run_once(milliseconds(0)));
  EXPECT_EQ(answers, 99);
  EXPECT_EQ(server_->questions, 1);
}

TEST_F(ResolverTest, SaysThatThereIsNoSuchName) {
  EXPECT_EQ(resolve("missing.example"), "the name \"missing.example\" cannot be resolved: there is no such name");
  const int questions = server_->questions;
  resolve("missing.example");
  EXPECT_EQ(server_->questions, questions) << "a failure is kept for a moment";
}

TEST_F(ResolverTest, SaysThatNoServerAnswers) {
  server_->entries["a.example"] = {.addresses = {}, .silent = true};
  EXPECT_EQ(resolve("a.example"),
            "the name \"a.example\" cannot be resolved: no name server answers (see /etc/resolv.conf)");
}

TEST_F(ResolverTest, GoesOnWithAnOldAnswerWhileNoServerAnswers) {
  server_->entries["a.example"] = {.addresses = {"192.0.2.1"}, .seconds_to_live = 0};
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.1");
  server_->entries["a.example"].silent = true;
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.1");
  const int questions = server_->questions;
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.1");
  EXPECT_EQ(server_->questions, questions) << "not every client waits for the dead server";
}

TEST_F(ResolverTest, ForgetsANameThatIsGone) {
  server_->entries["a.example"] = {.addresses = {"192.0.2.1"}, .seconds_to_live = 0};
  EXPECT_EQ(resolve("a.example", Family::kV4), "192.0.2.1");
  server_->entries.clear();
  EXPECT_NE(resolve("a.example", Family::kV4).find("there is no such name"), std::string::npos);
}

TEST_F(ResolverTest, ReadsTheConfigurationAgainWhenItChanges) {
  const testing::TempFolder folder;
  server_->entries["host.one.example"] = {.addresses = {"192.0.2.1"}, .seconds_to_live = 0};
  server_->entries["host.two.example"] = {.addresses = {"192.0.2.2"}, .seconds_to_live = 0};
  std::ofstream(folder / "resolv.conf") << "search one.example\n";
  start({.servers = server_->address(),
         .resolv_conf = folder / "resolv.conf",
         .try_time = milliseconds(100),
         .tries = 1});
  EXPECT_EQ(resolve("host", Family::kV4), "192.0.2.1");
  std::ofstream(folder / "new") << "search two.example\n";
  std::filesystem::rename(folder / "new", folder / "resolv.conf");
  EXPECT_EQ(resolve("host", Family::kV4), "192.0.2.2");
}

TEST_F(ResolverTest, KeepsALimitedNumberOfNames) {
  for (std::size_t i = 0; i < Resolver::kMaxNames + 100; ++i) {
    const std::string name = "n" + std::to_string(i) + ".example";
    server_->entries[name] = {.addresses = {"192.0.2.1"}};
    ASSERT_EQ(resolve(name, Family::kV4), "192.0.2.1");
  }
}

TEST_F(ResolverTest, MayBeDestroyedWhileItAsks) {
  server_->entries["a.example"] = {.addresses = {}, .silent = true};
  const auto query = resolver_->resolve("a.example", Family::kAny, [](const Result<Resolver::Addresses>&) { FAIL(); });
  EXPECT_OK(loop_->run_once(milliseconds(0)));
  resolver_.reset();
  for (int i = 0; i < 3; ++i) EXPECT_OK(loop_->run_once(milliseconds(0)));
}

}  // namespace
}  // namespace nitro::proxy
