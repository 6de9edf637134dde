// SPDX-License-Identifier: Apache-2.0
// The kernel's own vsock between programs of one machine, over the stand-in: a connection of a test to a kernel without
// it would leave the machine.
#include <sys/socket.h>

#include "enclave_proc/qemu/vsock/hybrid_socket.h"
#include "src/runtime/unix_socket.h"
#include "src/runtime/vsock_socket.h"
#include "tests/unit/enclave_proc/device/standin.h"

namespace nitro::proc {
namespace {

using Status = VirtioVsock::DialResult::Status;
using testing::Standin;
using Lines = std::vector<std::string>;

TEST(VsockLoopback, IsFoundOutByBindingToCid1) {
  const Standin standin;
  EXPECT_TRUE(kernel_has_vsock_loopback());
  EXPECT_EQ(standin.trace(), Lines{"VSOCK bind 1:4294967295"});
}

TEST(VsockLoopback, IsNotThereWhereNothingCanBeBoundToCid1) {
  const Standin standin({{"NITRO_DEVICE_FAIL", "VSOCK=99"}});
  EXPECT_FALSE(kernel_has_vsock_loopback());
}

/// A program that listens on AF_VSOCK.
Fd listen_at(std::uint32_t cid, std::uint32_t port) {
  Fd listener = vsock_socket(SOCK_NONBLOCK);
  EXPECT_EQ(bind_to(listener, vsock_address(cid, port)), 0);
  EXPECT_EQ(::listen(listener.get(), 5), 0);
  return listener;
}

bool has_client(const Fd& listener) {
  return Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)).valid();
}

TEST(VsockLoopback, LeadsToProgramsThatListenOnVsock) {
  const Standin standin;
  const testing::TempFolder folder;
  const HostPorts ports(folder.path(), true, nullptr);
  EXPECT_EQ(ports.dial(7000).status, Status::kRefused);
  const Fd program = listen_at(VMADDR_CID_LOCAL, 7000);
  EXPECT_EQ(ports.dial(7000).status, Status::kConnected);
  EXPECT_TRUE(has_client(program));
  EXPECT_EQ(ports.dial(7001).status, Status::kRefused);
}

TEST(VsockLoopback, ComesAfterTheUnixSocketOfThePort) {
  const Standin standin;
  const testing::TempFolder folder;
  const HostPorts ports(folder.path(), true, nullptr);
  const Fd program = listen_at(VMADDR_CID_LOCAL, 7000);
  auto listener = listen_unix(folder / "port_7000", 0600);
  ASSERT_OK(listener);
  EXPECT_EQ(ports.dial(7000).status, Status::kConnected);
  EXPECT_TRUE(has_client(listener->fd));
  EXPECT_FALSE(has_client(program));
  // A name behind which nobody listens any more counts as absent.
  listener->fd.reset();
  EXPECT_EQ(ports.dial(7000).status, Status::kConnected);
  EXPECT_TRUE(has_client(program));
}

TEST(VsockLoopback, IsLeftAloneWhereThereIsNone) {
  const Standin standin;
  const testing::TempFolder folder;
  const HostPorts ports(folder.path(), false, nullptr);
  const Fd program = listen_at(VMADDR_CID_LOCAL, 7000);
  EXPECT_EQ(ports.dial(7000).status, Status::kRefused);
  EXPECT_FALSE(has_client(program));
}

}  // namespace
}  // namespace nitro::proc
