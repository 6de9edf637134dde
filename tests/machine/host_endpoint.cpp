// SPDX-License-Identifier: Apache-2.0
#include "tests/machine/host_endpoint.h"

#include <sys/epoll.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace nitro::machine {

using proc::HostStream;
using proc::VsockConnection;
using proc::VsockHeader;
using proc::VsockName;
using proc::VsockOp;
using Action = VsockConnection::Action;

namespace {

constexpr std::uint32_t kBufferBytes = 64 * 1024;
// As Linux chooses ports: from 1024 on, and none that a program would listen on.
constexpr std::uint32_t kFirstPort = std::uint32_t{1} << 30;
constexpr auto kTick = std::chrono::milliseconds(250);

}  // namespace

HostEndpoint::HostEndpoint(EventLoop& loop, std::uint64_t guest_cid, Accept accept, std::function<void()> on_due)
    : loop_(loop),
      guest_cid_(guest_cid),
      accept_(std::move(accept)),
      on_due_(std::move(on_due)),
      next_port_(kFirstPort),
      tick_(loop.watch_timer(
          kTick, [this] { on_tick(); }, true)) {}

void HostEndpoint::connect(Fd socket, std::uint64_t from_cid, std::uint32_t guest_port) {
  const VsockName name{
      .guest_cid = guest_cid_, .host_cid = from_cid, .guest_port = guest_port, .host_port = next_port_++};
  add(VsockConnection::asked_by_host(name, kBufferBytes, VsockConnection::Clock::now()), std::move(socket));
  on_due_();
}

void HostEndpoint::close_all_of(std::uint64_t cid) {
  for (auto link = links_.begin(); link != links_.end();) {
    const auto current = link++;
    if (current->first.host_cid == cid) settle(*current->second, Action::kReset);
  }
}

bool HostEndpoint::add(const VsockConnection& connection, Fd socket) {
  auto link = std::make_unique<Link>(connection);
  link->stream.connect(std::move(socket));
  auto watch = loop_.watch_fd(link->stream.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                              [this, added = link.get()](std::uint32_t events) { on_socket(*added, events); });
  if (!watch) return false;
  link->watch = std::move(*watch);
  links_.insert_or_assign(connection.name(), std::move(link));
  return true;
}

bool HostEndpoint::take(const VsockHeader& header, std::span<const std::byte> payload) {
  const auto found = links_.find(VsockName{.guest_cid = header.source_cid,
                                           .host_cid = header.destination_cid,
                                           .guest_port = header.source_port,
                                           .host_port = header.destination_port});
  if (found != links_.end()) {
    Link& link = *found->second;
    const Action action = link.connection.take(header);
    if (action == Action::kDeliver) deliver(link, payload);
    if (action == Action::kShutdown && !link.connection.guest_receives()) link.stream.stop_reading();
    if (action == Action::kShutdown && !link.connection.guest_sends()) link.stream.finish();
    settle(link, action);
    return true;
  }
  if (!header.is(VsockOp::kRequest)) return false;
  auto socket = accept_(header.destination_cid, header.destination_port);
  if (!socket) return false;
  auto connection = VsockConnection::asked_by_guest(header, kBufferBytes, VsockConnection::Clock::now());
  connection.host_connected();
  return add(connection, std::move(*socket));
}

void HostEndpoint::deliver(Link& link, std::span<const std::byte> payload) {
  // iovec has no const: these bytes are only read.
  std::vector<iovec> pieces{{const_cast<std::byte*>(payload.data()), payload.size()}};
  const HostStream::Written written = link.stream.write(pieces);
  link.connection.delivered(static_cast<std::uint32_t>(written.bytes));
  if (written.failed) link.connection.host_stopped_reading();
}

void HostEndpoint::on_socket(Link& link, std::uint32_t events) {
  const bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if (hung_up || (events & (EPOLLIN | EPOLLRDHUP)) != 0) link.connection.host_readable();
  if (link.stream.buffered_bytes() > 0) {
    const HostStream::Written written = link.stream.flush();
    link.connection.delivered(static_cast<std::uint32_t>(written.bytes));
    if (written.failed) link.connection.host_stopped_reading();
  }
  settle(link, hung_up ? link.connection.host_hung_up() : Action::kNothing);
  on_due_();
}

// The link may be gone afterwards.
void HostEndpoint::settle(Link& link, Action action) {
  if (action != Action::kReset && action != Action::kForget) return;
  if (action == Action::kReset) resets_.push_back(link.connection.reset_packet());
  links_.erase(VsockName(link.connection.name()));
  on_due_();
}

std::optional<VsockHeader> HostEndpoint::next(std::span<std::byte> room) {
  if (!resets_.empty()) {
    const VsockHeader reset = resets_.front();
    resets_.pop_front();
    return reset;
  }
  for (const auto& [name, link] : links_) {
    if (const auto header = next_of(*link, room)) return header;
  }
  return std::nullopt;
}

std::optional<VsockHeader> HostEndpoint::next_of(Link& link, std::span<std::byte> room) {
  VsockConnection& connection = link.connection;
  auto op = connection.due();
  std::uint32_t length = 0;
  if (op == VsockOp::kData) {
    std::vector<iovec> pieces{{room.data(), std::min<std::size_t>(room.size(), connection.credit())}};
    const HostStream::Read read = link.stream.read(pieces);
    length = static_cast<std::uint32_t>(read.bytes);
    if (read.got != HostStream::Got::kBytes) {
      connection.host_drained();
      if (read.got != HostStream::Got::kNothingNow) connection.host_finished();
      if (read.got == HostStream::Got::kFailed) connection.host_stopped_reading();
      op = connection.due_control();
    }
  }
  if (!op) return std::nullopt;
  const VsockHeader header = connection.packet(*op, length);
  connection.sent(header, VsockConnection::Clock::now());
  return header;
}

void HostEndpoint::forget() {
  links_.clear();
  resets_.clear();
}

void HostEndpoint::on_tick() {
  const auto now = VsockConnection::Clock::now();
  for (auto link = links_.begin(); link != links_.end();) {
    Link& current = *(link++)->second;
    if (current.connection.deadline() && *current.connection.deadline() <= now)
      settle(current, current.connection.expire());
  }
}

}  // namespace nitro::machine
