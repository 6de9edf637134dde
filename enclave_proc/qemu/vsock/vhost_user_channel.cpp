// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/vhost_user_channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

namespace nitro::proc {
namespace {

constexpr std::size_t kHeaderSize = 12;
constexpr std::uint32_t kVersion = 0x1;
constexpr std::uint32_t kFlagReply = 0x4;

// The longest requests to a back-end with our features are SET_MEM_TABLE with eight regions, 264 bytes, and GET_CONFIG,
// at most 12 + 256. Anything larger is a broken front-end.
constexpr std::size_t kMaxPayload = 1024;

std::vector<Fd> descriptors_of(msghdr& message) {
  std::vector<Fd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

struct ReadResult {
  ssize_t bytes = -1;  // as returned by recvmsg(2), with errno
  std::vector<Fd> fds;
  bool cut = false;  // `fds` lacks some of the descriptors
};

ReadResult read_message(int socket, std::span<std::byte> buffer, int flags) {
  iovec piece{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * VhostUserChannel::kMaxFds)> control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ReadResult result;
  result.bytes = ::recvmsg(socket, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (result.bytes <= 0) return result;
  result.fds = descriptors_of(message);
  result.cut = (message.msg_flags & MSG_CTRUNC) != 0;
  return result;
}

}  // namespace

Result<VhostUserChannel::Received> VhostUserChannel::receive(VhostUserRequest& request) {
  while (true) {
    std::size_t size = kHeaderSize;
    if (input_.size() >= kHeaderSize) {
      const auto payload_size = native<std::uint32_t>(input_, 8);
      if (payload_size > kMaxPayload) {
        return vhost_user_error("a request of " + std::to_string(payload_size) +
                                " bytes, more than any negotiated request has");
      }
      size += payload_size;
    }
    if (input_.size() == size) {
      const std::vector<std::byte> message = std::exchange(input_, {});
      request = {.type = native<std::uint32_t>(message, 0),
                 .flags = native<std::uint32_t>(message, 4),
                 .payload = std::vector<std::byte>(message.begin() + kHeaderSize, message.end()),
                 .fds = std::exchange(input_fds_, {})};
      return Received::kRequest;
    }
    NITRO_TRY(const std::optional<Received> obstacle, read_some(size - input_.size()));
    if (obstacle) return *obstacle;
  }
}

Result<std::optional<VhostUserChannel::Received>> VhostUserChannel::read_some(std::size_t wanted) {
  // If this process has no room for descriptors, they are lost with the bytes that carried them. So peek first, which
  // duplicates the descriptors, and take the bytes only when all of them fit. A peek may also return descriptors of the
  // next request (Linux looks one message too far), so those are only counted.
  std::array<std::byte, kHeaderSize + kMaxPayload> buffer;
  ReadResult read = read_message(socket_.get(), std::span(buffer).first(wanted), MSG_PEEK);
  if (read.bytes > 0 && read.cut && read.fds.size() < kMaxFds) return Received::kNoDescriptors;
  if (read.bytes > 0) {
    read.fds.clear();
    read = read_message(socket_.get(), std::span(buffer).first(wanted), 0);
  }
  const ssize_t got = read.bytes;
  if (got < 0 && errno == EINTR) return std::nullopt;
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Received::kPart;
  if (got == 0 || (got < 0 && errno == ECONNRESET)) return Received::kHungUp;
  if (got < 0) return fail_errno(ErrorCode::kEnclaveBoot, "reading QEMU's vhost-user connection");

  std::vector<Fd> fds = std::move(read.fds);
  // The kernel truncates the list when it exceeds the buffer, or when no descriptor is left.
  if (read.cut && fds.size() < kMaxFds) return vhost_user_error("no file descriptors are left for those of a request");
  if (read.cut || input_fds_.size() + fds.size() > kMaxFds) {
    return vhost_user_error("more than " + std::to_string(kMaxFds) + " descriptors with one request");
  }
  input_.insert(input_.end(), buffer.begin(), buffer.begin() + got);
  std::move(fds.begin(), fds.end(), std::back_inserter(input_fds_));
  return std::nullopt;
}

Result<void> VhostUserChannel::reply(std::uint32_t type, std::span<const std::byte> payload) {
  std::vector<std::byte> message(kHeaderSize + payload.size());
  put_native<std::uint32_t>(message, 0, type);
  put_native<std::uint32_t>(message, 4, kVersion | kFlagReply);
  put_native<std::uint32_t>(message, 8, static_cast<std::uint32_t>(payload.size()));
  std::copy(payload.begin(), payload.end(), message.begin() + kHeaderSize);
  const ssize_t sent = ::send(socket_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return fail_errno(ErrorCode::kEnclaveBoot, "answering QEMU's vhost-user request");
  // A front-end that reads its replies never lets a few hundred bytes fill the socket.
  if (static_cast<std::size_t>(sent) != message.size()) return vhost_user_error("the replies are not read");
  return {};
}

}  // namespace nitro::proc
