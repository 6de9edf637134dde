// SPDX-License-Identifier: Apache-2.0
// What a name server answers: addresses, or an error. The input is the answer after its question: 2 bytes of flags, 6
// of counts, records.
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "fuzz.h"
#include "vsock_proxy/names/resolver.h"
#include "vsock_proxy/sockets/socket_address.h"

using nitro::EventLoop;
using nitro::Fd;
using nitro::fuzz::require;
using nitro::proxy::IpAddress;
using nitro::proxy::Resolver;
using nitro::proxy::SocketAddress;

namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kFlagsAndCounts = 8;  // flags, then the counts of answers, authorities, additional records

/// A name server that answers each question with the input, and then with "there is no such name", in case that the
/// first answer is not taken for one.
class Server {
 public:
  Server() {
    auto loop = EventLoop::create();
    require(loop.has_value());
    loop_ = std::move(*loop);
    socket_ = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    require(SocketAddress::of_tcp(*IpAddress::parse("127.0.0.1"), 0).bind(socket_.get()) == 0);
    auto watch = loop_->watch_fd(socket_.get(), EPOLLIN, [this](std::uint32_t) { answer(); });
    require(watch.has_value());
    watch_ = std::move(*watch);
    auto resolver = Resolver::create(*loop_, {.servers = SocketAddress::own_of(socket_.get())->text(),
                                              .resolv_conf = "/dev/null",
                                              .try_time = std::chrono::milliseconds(100),
                                              .tries = 1});
    require(resolver.has_value());
    resolver_ = std::move(*resolver);
  }

  void ask(std::span<const std::uint8_t> input) {
    input_ = input;
    std::optional<bool> answered;
    // A name of its own: answers are kept.
    const auto name = "n" + std::to_string(count_++) + ".example";
    const auto query =
        resolver_->resolve(name, nitro::proxy::Family::kV4, [&](const nitro::Result<Resolver::Addresses>& result) {
          if (result) {
            require(!result->empty());
            require(
                std::all_of(result->begin(), result->end(), [](const IpAddress& address) { return address.is_v4(); }));
          } else {
            require(result.error().message().find(name) != std::string::npos);
          }
          answered = true;
        });
    while (!answered) require(loop_->run_once(std::chrono::milliseconds(1000)).has_value());
  }

 private:
  void answer() {
    std::array<std::uint8_t, 512> question{};
    sockaddr_storage peer{};
    socklen_t peer_size = sizeof peer;
    const ssize_t size =
        ::recvfrom(socket_.get(), question.data(), question.size(), 0, reinterpret_cast<sockaddr*>(&peer), &peer_size);
    if (size <= static_cast<ssize_t>(kHeaderBytes)) return;
    const auto end = std::find(question.begin() + kHeaderBytes, question.end(), std::uint8_t{0}) + 5;
    std::vector<std::uint8_t> reply(question.begin(), end);
    const std::size_t head = std::min(input_.size(), kFlagsAndCounts);
    constexpr std::array<std::size_t, kFlagsAndCounts> kPlaces{2, 3, 6, 7, 8, 9, 10, 11};
    for (std::size_t i = 0; i < head; ++i) reply[kPlaces.at(i)] = input_[i];
    reply.insert(reply.end(), input_.begin() + static_cast<std::ptrdiff_t>(head), input_.end());
    send(reply, peer, peer_size);
    std::vector<std::uint8_t> none(question.begin(), end);
    none[2] = 0x81;
    none[3] = 0x83;
    std::fill(none.begin() + 6, none.begin() + kHeaderBytes, std::uint8_t{0});
    send(none, peer, peer_size);
  }
  void send(const std::vector<std::uint8_t>& reply, const sockaddr_storage& peer, socklen_t peer_size) {
    ::sendto(socket_.get(), reply.data(), reply.size(), 0, reinterpret_cast<const sockaddr*>(&peer), peer_size);
  }

  std::unique_ptr<EventLoop> loop_;
  Fd socket_;
  EventLoop::Watch watch_;
  std::unique_ptr<Resolver> resolver_;
  std::span<const std::uint8_t> input_;
  std::uint64_t count_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Server server;
  server.ask(std::span(data, size));
  return 0;
}
