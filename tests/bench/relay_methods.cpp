// SPDX-License-Identifier: Apache-2.0
// Compares ways to relay a stream between a vsock connection and a TCP connection (docs/performance.md).
//
//   relay_methods vsock|unix up|down BYTES METHOD...
//
// "unix" is a Unix socket, as the tests' stand-in for vsock uses; "up" relays to TCP. Methods, in which N is in KiB:
//   copy:N      recv(2) and send(2) through a buffer
//   splice:N    splice(2) through a pipe
//   zerocopy:N  recv(2), and send(2) with MSG_ZEROCOPY; a buffer is used again when the kernel is done with it
//   sockmap     BPF: the kernel redirects each piece from one socket to the other
//
// One thread relays, one writes, one reads. For each method a line of JSON: GiB/s, CPU seconds per GiB of the relaying
// thread, and of the whole machine (/proc/stat), which includes the work that the kernel does for it elsewhere.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/errqueue.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "nitro/fd.h"
#include "src/runtime/vsock_socket.h"

namespace {

using nitro::Fd;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kBlock = std::size_t{256} << 10;
constexpr std::size_t kKib = 1024;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

void require(bool holds, const char* what) {
  if (!holds) die(what);
}

using Pair = std::pair<Fd, Fd>;

template <typename Address>
Pair accept_from(const Fd& listener, Fd client, const Address& address) {
  require(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "connect");
  Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  require(server.valid(), "accept");
  return {std::move(client), std::move(server)};
}

Pair tcp_pair() {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  require(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "bind");
  require(::listen(listener.get(), 1) == 0, "listen");
  require(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0, "getsockname");
  Pair pair = accept_from(listener, Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), address);
  const int on = 1;
  for (const Fd* end : {&pair.first, &pair.second}) ::setsockopt(end->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return pair;
}

/// Within this machine: its own CID where vsock_loopback is.
Pair vsock_pair() {
  const Fd listener = nitro::vsock_socket();
  require(listener.valid(), "vsock socket");
  sockaddr_vm address = nitro::vsock_address(VMADDR_CID_ANY, VMADDR_PORT_ANY);
  socklen_t length = sizeof address;
  require(nitro::bind_to(listener, address) == 0 && ::listen(listener.get(), 1) == 0, "listening on vsock");
  require(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0, "getsockname");
  return accept_from(listener, nitro::vsock_socket(), nitro::vsock_address(VMADDR_CID_LOCAL, address.svm_port));
}

Pair unix_pair() {
  std::array<int, 2> ends{};
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0, "socketpair");
  return {Fd(ends[0]), Fd(ends[1])};
}

double machine_cpu_seconds() {
  std::ifstream stat("/proc/stat");
  std::string name;
  // The line of all processors: user nice system idle iowait irq softirq steal.
  std::array<double, 8> times{};
  stat >> name;
  for (double& time : times) stat >> time;
  return (times[0] + times[1] + times[2] + times[5] + times[6]) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double thread_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void relay_by_copy(int from, int to, std::size_t size) {
  std::vector<std::byte> buffer(size);
  while (true) {
    const ssize_t count = ::recv(from, buffer.data(), buffer.size(), 0);
    require(count >= 0, "recv");
    if (count == 0) return;
    require(nitro::write_all(to, std::span(buffer).first(static_cast<std::size_t>(count))).has_value(), "send");
  }
}

void relay_by_splice(int from, int to, std::size_t size) {
  std::array<int, 2> ends{};
  require(::pipe2(ends.data(), O_CLOEXEC) == 0, "pipe2");
  const Fd out(ends[0]);
  const Fd in(ends[1]);
  require(::fcntl(in.get(), F_SETPIPE_SZ, static_cast<int>(size)) > 0, "F_SETPIPE_SZ");
  while (true) {
    const ssize_t count = ::splice(from, nullptr, in.get(), nullptr, size, SPLICE_F_MOVE);
    require(count >= 0, "splice from the socket");
    if (count == 0) return;
    for (auto left = static_cast<std::size_t>(count); left > 0;) {
      const ssize_t sent = ::splice(out.get(), nullptr, to, nullptr, left, SPLICE_F_MOVE);
      require(sent > 0, "splice to the socket");
      left -= static_cast<std::size_t>(sent);
    }
  }
}

/// How many sends the kernel has finished with since the last call; waits for one if `wait`.
std::uint32_t finished_sends(int socket, bool wait) {
  std::uint32_t finished = 0;
  while (true) {
    std::array<char, 256> control{};
    msghdr message{};
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(socket, &message, MSG_ERRQUEUE) < 0) {
      require(errno == EAGAIN || errno == EWOULDBLOCK, "error queue");
      if (finished > 0 || !wait) return finished;
      pollfd ready{.fd = socket, .events = 0, .revents = 0};
      ::poll(&ready, 1, -1);
      continue;
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      sock_extended_err error{};
      std::memcpy(&error, CMSG_DATA(header), sizeof error);
      if (error.ee_origin == SO_EE_ORIGIN_ZEROCOPY) finished += error.ee_data - error.ee_info + 1;
    }
  }
}

void relay_by_zerocopy(int from, int to, std::size_t size) {
  const int on = 1;
  require(::setsockopt(to, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on) == 0, "SO_ZEROCOPY");
  constexpr std::size_t kBuffers = 8;
  std::vector<std::vector<std::byte>> buffers(kBuffers, std::vector<std::byte>(size));
  std::vector<std::uint32_t> sends(kBuffers, 0);  // the count of sends after the last one from this buffer
  std::uint32_t sent = 0;
  std::uint32_t finished = 0;
  for (std::size_t turn = 0;; turn = (turn + 1) % kBuffers) {
    while (finished < sends[turn]) finished += finished_sends(to, true);
    const ssize_t count = ::recv(from, buffers[turn].data(), size, 0);
    require(count >= 0, "recv");
    if (count == 0) break;
    for (auto rest = std::span(buffers[turn]).first(static_cast<std::size_t>(count)); !rest.empty();) {
      const ssize_t taken = ::send(to, rest.data(), rest.size(), MSG_ZEROCOPY | MSG_NOSIGNAL);
      if (taken < 0 && errno == ENOBUFS) {  // too many are unfinished
        finished += finished_sends(to, true);
        continue;
      }
      require(taken > 0, "send");
      ++sent;
      rest = rest.subspan(static_cast<std::size_t>(taken));
    }
    sends[turn] = sent;
    finished += finished_sends(to, false);
  }
  while (finished < sent) finished += finished_sends(to, true);
}

int bpf(int command, bpf_attr& attributes) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

Fd socket_map() {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_SOCKMAP;
  attributes.key_size = sizeof(std::uint32_t);
  attributes.value_size = sizeof(std::uint64_t);
  attributes.max_entries = 1;
  Fd map(bpf(BPF_MAP_CREATE, attributes));
  require(map.valid(), "BPF_MAP_CREATE");
  return map;
}

void put(const Fd& map, int socket) {
  std::uint32_t key = 0;
  auto value = static_cast<std::uint64_t>(socket);
  bpf_attr attributes{};
  attributes.map_fd = static_cast<std::uint32_t>(map.get());
  attributes.key = reinterpret_cast<std::uint64_t>(&key);
  attributes.value = reinterpret_cast<std::uint64_t>(&value);
  require(bpf(BPF_MAP_UPDATE_ELEM, attributes) == 0, "adding a socket to a sockmap");
}

/// `return bpf_sk_redirect_map(skb, map, 0, 0)`.
Fd redirecting_program(const Fd& map) {
  const auto low = static_cast<std::int32_t>(map.get());
  const std::array<bpf_insn, 7> program{{
      {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_2, .src_reg = BPF_PSEUDO_MAP_FD, .off = 0, .imm = low},
      {.code = 0, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = BPF_FUNC_sk_redirect_map},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {},
  }};
  std::vector<char> log(4096);
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SK_SKB;
  attributes.insn_cnt = program.size() - 1;
  attributes.insns = reinterpret_cast<std::uint64_t>(program.data());
  attributes.license = reinterpret_cast<std::uint64_t>("GPL");
  attributes.log_buf = reinterpret_cast<std::uint64_t>(log.data());
  attributes.log_size = static_cast<std::uint32_t>(log.size());
  attributes.log_level = 1;
  Fd loaded(bpf(BPF_PROG_LOAD, attributes));
  if (!loaded) std::fputs(log.data(), stderr);
  require(loaded.valid(), "BPF_PROG_LOAD");
  return loaded;
}

/// The kernel relays while this exists. Made before the first byte is sent: what has arrived already wakes nobody.
class Sockmap {
 public:
  Sockmap(int from, int to) {
    bpf_attr attributes{};
    attributes.target_fd = static_cast<std::uint32_t>(sources_.get());
    attributes.attach_bpf_fd = static_cast<std::uint32_t>(program_.get());
    attributes.attach_type = BPF_SK_SKB_VERDICT;
    require(bpf(BPF_PROG_ATTACH, attributes) == 0, "BPF_PROG_ATTACH");
    put(targets_, to);
    put(sources_, from);
  }

 private:
  Fd sources_ = socket_map();
  Fd targets_ = socket_map();
  Fd program_ = redirecting_program(targets_);
};

void measure(std::string_view kind, bool up, std::uint64_t bytes, const std::string& method) {
  Pair vsock = kind == "vsock" ? vsock_pair() : unix_pair();
  Pair tcp = tcp_pair();
  const Fd& source = up ? vsock.first : tcp.first;
  const Fd& from = up ? vsock.second : tcp.second;
  const Fd& to = up ? tcp.second : vsock.second;
  const Fd& target = up ? tcp.first : vsock.first;

  const auto size = method.find(':') != std::string::npos ? kKib * std::stoul(method.substr(method.find(':') + 1)) : 0;
  std::optional<Sockmap> sockmap;
  if (method == "sockmap") sockmap.emplace(from.get(), to.get());
  const double machine = machine_cpu_seconds();
  const double thread = thread_cpu_seconds();
  const auto begin = Clock::now();
  std::thread reader([&target, bytes] {
    std::vector<std::byte> buffer(kBlock);
    for (std::uint64_t left = bytes; left > 0;) {
      const ssize_t count = ::recv(target.get(), buffer.data(), buffer.size(), 0);
      require(count > 0, "reading what was relayed");
      left -= static_cast<std::uint64_t>(count);
    }
  });
  std::thread writer([&source, bytes] {
    const std::vector<std::byte> buffer(kBlock);
    for (std::uint64_t left = bytes; left > 0;) {
      const std::size_t piece = std::min<std::uint64_t>(left, buffer.size());
      require(nitro::write_all(source.get(), std::span(buffer).first(piece)).has_value(), "writing");
      left -= piece;
    }
    ::shutdown(source.get(), SHUT_WR);
  });
  if (method.starts_with("copy:")) relay_by_copy(from.get(), to.get(), size);
  if (method.starts_with("splice:")) relay_by_splice(from.get(), to.get(), size);
  if (method.starts_with("zerocopy:")) relay_by_zerocopy(from.get(), to.get(), size);
  writer.join();
  reader.join();
  const std::chrono::duration<double> elapsed = Clock::now() - begin;
  const double gib = static_cast<double>(bytes) / (1U << 30);
  std::printf(
      "{\"method\": \"%s\", \"gib_per_second\": %.3f, \"thread_seconds_per_gib\": %.3f, "
      "\"machine_seconds_per_gib\": %.3f}\n",
      method.c_str(), gib / elapsed.count(), (thread_cpu_seconds() - thread) / gib,
      (machine_cpu_seconds() - machine) / gib);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  if (argc < 5) {
    std::fputs("see the head of tests/bench/relay_methods.cpp\n", stderr);
    return 2;
  }
  const std::string_view way = argv[2];
  for (int i = 4; i < argc; ++i) measure(argv[1], way == "up", std::strtoull(argv[3], nullptr, 10), argv[i]);
  return 0;
}
