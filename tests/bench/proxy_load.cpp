// SPDX-License-Identifier: Apache-2.0
// Load for the benchmark of vsock proxies (tests/bench/proxy): a TCP server, and clients that reach it through vsock.
//
//   proxy_load serve PORT                      serves TCP port PORT of the loopback; the first byte of a connection
//   says
//                                              what: E echoes, U reads everything, D sends as many bytes as 8 bytes say
//   proxy_load bulk PORT STREAMS BYTES up|down moves BYTES in each of STREAMS connections
//   proxy_load rounds PORT SECONDS             sends 1 KiB and waits for its echo, on one connection
//   proxy_load connects PORT SECONDS CLIENTS   connects, one byte there and back, closes; CLIENTS at the same time
//   proxy_load hold PORT COUNT                 connects COUNT times, one byte there and back each; then waits for stdin
//   proxy_load listen PORT COMMAND...          executes COMMAND with a listening vsock socket, as socket activation
//   does
//
// PORT of clients is a port of vsock CID 3, or of the CID in PROXY_LOAD_CID. Results are JSON on stdout.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/runtime/vsock_socket.h"

namespace {

using nitro::Fd;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kBlock = std::size_t{256} << 10;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

void require(bool holds, const char* what) {
  if (!holds) die(what);
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::uint64_t number(const char* text) {
  return std::strtoull(text, nullptr, 10);
}

/// A connection through the proxy, or an invalid one.
Fd reach(std::uint32_t port) {
  const char* cid = std::getenv("PROXY_LOAD_CID");
  Fd socket = nitro::vsock_socket();
  require(socket.valid(), "vsock socket");
  // The time limit of a connection through vsock; the stand-in's Unix sockets would wait for a place in the backlog.
  const timeval limit{.tv_sec = 2, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const auto address = nitro::vsock_address(cid != nullptr ? static_cast<std::uint32_t>(number(cid)) : 3, port);
  if (nitro::connect_to(socket, address) != 0) return {};
  const timeval none{};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
  return socket;
}

void echo_all(int epoll) {
  std::array<epoll_event, 256> events{};
  std::vector<std::byte> buffer(kBlock);
  while (true) {
    const int count = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int socket = events.at(static_cast<std::size_t>(i)).data.fd;
      const ssize_t size = ::recv(socket, buffer.data(), buffer.size(), 0);
      if (size <= 0 || !nitro::write_all(socket, std::span(buffer).first(static_cast<std::size_t>(size))))
        ::close(socket);
    }
  }
}

void serve_bulk(Fd socket, char what) {
  std::vector<std::byte> buffer(kBlock);
  if (what == 'U') {
    while (::recv(socket.get(), buffer.data(), buffer.size(), 0) > 0) {
    }
    return;
  }
  std::uint64_t left = 0;
  if (!nitro::read_exact(socket.get(), std::as_writable_bytes(std::span(&left, 1)))) return;
  while (left > 0) {
    const std::size_t size = std::min<std::uint64_t>(left, buffer.size());
    if (!nitro::write_all(socket.get(), std::span(buffer).first(size))) return;
    left -= size;
  }
}

int serve(std::uint16_t port) {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  require(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "bind");
  require(::listen(listener.get(), 4096) == 0, "listen");
  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::thread(echo_all, epoll.get()).detach();
  std::puts("ready");
  std::fflush(stdout);
  while (true) {
    Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) continue;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char what = 0;
    if (::recv(socket.get(), &what, 1, 0) != 1) continue;
    if (what == 'E') {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = socket.release();
      ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event.data.fd, &event);
    } else {
      std::thread(serve_bulk, std::move(socket), what).detach();
    }
  }
}

void bulk_stream(std::uint32_t port, std::uint64_t bytes, bool up) {
  const Fd socket = reach(port);
  require(socket.valid(), "connect");
  std::vector<std::byte> buffer(kBlock);
  std::uint64_t left = bytes;
  if (up) {
    require(nitro::write_all(socket.get(), nitro::as_bytes("U")).has_value(), "write");
    for (; left > 0; left -= std::min<std::uint64_t>(left, buffer.size())) {
      require(nitro::write_all(socket.get(), std::span(buffer).first(std::min<std::uint64_t>(left, buffer.size())))
                  .has_value(),
              "write");
    }
    // The server closes when it has read everything; so everything has arrived.
    ::shutdown(socket.get(), SHUT_WR);
    require(::recv(socket.get(), buffer.data(), 1, 0) == 0, "end");
    return;
  }
  require(nitro::write_all(socket.get(), nitro::as_bytes("D")).has_value(), "write");
  require(nitro::write_all(socket.get(), std::as_bytes(std::span(&bytes, 1))).has_value(), "write");
  while (left > 0) {
    const ssize_t size = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    require(size > 0, "read");
    left -= static_cast<std::uint64_t>(size);
  }
}

int bulk(std::uint32_t port, std::uint64_t streams, std::uint64_t bytes, bool up) {
  const auto begin = Clock::now();
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < streams; ++i) threads.emplace_back(bulk_stream, port, bytes, up);
  for (std::thread& thread : threads) thread.join();
  std::printf("{\"seconds\": %.6f, \"bytes\": %llu}\n", seconds_since(begin),
              static_cast<unsigned long long>(streams * bytes));
  return 0;
}

int rounds(std::uint32_t port, double seconds) {
  const Fd socket = reach(port);
  require(socket.valid(), "connect");
  require(nitro::write_all(socket.get(), nitro::as_bytes("E")).has_value(), "write");
  std::vector<std::byte> buffer(1024);
  std::vector<double> times;
  const auto begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    const auto start = Clock::now();
    require(nitro::write_all(socket.get(), buffer).has_value(), "write");
    require(nitro::read_exact(socket.get(), buffer).has_value(), "read");
    times.push_back(seconds_since(start));
  }
  const double total = seconds_since(begin);
  std::sort(times.begin(), times.end());
  std::printf("{\"per_second\": %.1f, \"p99_us\": %.1f}\n", static_cast<double>(times.size()) / total,
              1e6 * times[times.size() * 99 / 100]);
  return 0;
}

int connects(std::uint32_t port, double seconds, std::uint64_t clients) {
  std::atomic<std::uint64_t> count{0};
  const auto begin = Clock::now();
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < clients; ++i) {
    threads.emplace_back([&] {
      while (seconds_since(begin) < seconds) {
        const Fd socket = reach(port);
        std::byte answer{};
        if (socket && nitro::write_all(socket.get(), nitro::as_bytes("Ex")) && ::recv(socket.get(), &answer, 1, 0) == 1)
          ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("{\"per_second\": %.1f, \"count\": %llu}\n", static_cast<double>(count) / seconds_since(begin),
              static_cast<unsigned long long>(count));
  return 0;
}

int hold(std::uint32_t port, std::uint64_t count) {
  std::vector<Fd> sockets;
  std::uint64_t answered = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    Fd socket = reach(port);
    // One that takes no more clients would cost the time limit each time.
    if (!socket || !nitro::write_all(socket.get(), nitro::as_bytes("Ex"))) break;
    sockets.push_back(std::move(socket));
  }
  const auto begin = Clock::now();
  for (const Fd& socket : sockets) {
    pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
    const int left = std::max(0, static_cast<int>(5000 - 1000 * seconds_since(begin)));
    char answer = 0;
    if (::poll(&ready, 1, left) == 1 && ::recv(socket.get(), &answer, 1, 0) == 1) ++answered;
  }
  std::printf("{\"connected\": %zu, \"answered\": %llu}\n", sockets.size(), static_cast<unsigned long long>(answered));
  std::fflush(stdout);
  char byte = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(STDIN_FILENO, &byte, 1);
  return 0;
}

int listen_for(std::uint32_t port, char** command) {
  const Fd listener = nitro::vsock_socket();
  require(listener.valid() && nitro::bind_to(listener, nitro::vsock_address(3, port)) == 0, "bind");
  require(::listen(listener.get(), 4096) == 0, "listen");
  constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
  require(::dup2(listener.get(), kFirst) == kFirst, "dup2");
  // If it was that descriptor already, it would be closed by exec.
  require(::fcntl(kFirst, F_SETFD, 0) == 0, "fcntl");
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::execvp(command[0], command);
  die(command[0]);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  const std::string_view what = argc > 2 ? argv[1] : "";
  const auto port = argc > 2 ? static_cast<std::uint32_t>(number(argv[2])) : 0;
  if (what == "serve") return serve(static_cast<std::uint16_t>(port));
  if (what == "bulk" && argc == 6)
    return bulk(port, number(argv[3]), number(argv[4]), std::string_view(argv[5]) == "up");
  if (what == "rounds" && argc == 4) return rounds(port, std::strtod(argv[3], nullptr));
  if (what == "connects" && argc == 5) return connects(port, std::strtod(argv[3], nullptr), number(argv[4]));
  if (what == "hold" && argc == 4) return hold(port, number(argv[3]));
  if (what == "listen" && argc > 3) return listen_for(port, argv + 3);
  std::fputs("see the head of tests/bench/proxy_load.cpp\n", stderr);
  return 2;
}
