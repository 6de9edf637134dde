// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/hybrid_socket.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "descriptor_limit.h"
#include "tests/unit/enclave_proc/qemu/vsock/fake_guest.h"

namespace nitro::proc {
namespace {

using Status = VirtioVsock::DialResult::Status;

TEST(ConnectLine, IsAPortInDecimalAndNothingElse) {
  EXPECT_EQ(parse_connect_line("CONNECT 5005"), 5005U);
  EXPECT_EQ(parse_connect_line("CONNECT 0"), 0U);
  EXPECT_EQ(parse_connect_line("CONNECT 4294967294"), 4294967294U);
  for (const char* bad :
       {"", "CONNECT", "CONNECT ", "CONNECT x", "CONNECT 5005 ", "CONNECT  5005", "connect 5005", "CONNECT -1",
        "CONNECT +1", "CONNECT 4294967295", "CONNECT 4294967296", "CONNECT 5005\r", "GET / HTTP/1.1"}) {
    EXPECT_FALSE(parse_connect_line(bad)) << bad;
  }
}

TEST(LocalFolder, IsPrivateAndVanishesWithAllThatIsInIt) {
  nitro::testing::TempFolder temp;
  const std::string path = temp / "x.vsock";
  {
    auto folder = LocalFolder::create(path);
    ASSERT_OK(folder);
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
    nitro::testing::write_file(path + "/port_7000", "");
    EXPECT_FALSE(LocalFolder::create(path)) << "it exists";
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(LocalFolder, IsNotMadeWhereSocketsWouldHaveTooLongNames) {
  nitro::testing::TempFolder temp;
  const std::size_t room = 107 - 16 - 1 - temp.path().size();
  const auto fits = LocalFolder::create(temp / std::string(room, 'x'));
  ASSERT_OK(fits);
  EXPECT_OK(listen_unix(fits->path() + "/port_4294967294", 0600));
  const auto too_long = LocalFolder::create(temp / std::string(room + 1, 'x'));
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code(), ErrorCode::kSocket);
}

TEST(LocalFolder, IsRemovedWhenItsEnclaveIsGoneAndOnlyThen) {
  nitro::testing::TempFolder temp;
  const std::string path = temp / "x.vsock";
  EXPECT_OK(remove_stale_local_folder(path));
  auto ready = make_pipe();
  ASSERT_OK(ready);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto folder = LocalFolder::create(path);
    const auto listener = listen_unix(path + "/connect", 0600);
    const std::byte done{folder && listener};
    auto ignored = write_all(ready->second.get(), std::span(&done, 1));
    ::pause();
    ::_exit(0);
  }
  std::byte done{};
  ASSERT_OK(read_exact(ready->first.get(), std::span(&done, 1)));
  ASSERT_EQ(done, std::byte{1});
  EXPECT_FALSE(remove_stale_local_folder(path));
  EXPECT_TRUE(std::filesystem::exists(path));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_OK(remove_stale_local_folder(path));
  EXPECT_FALSE(std::filesystem::exists(path));

  nitro::testing::write_file(path, "not a folder");
  EXPECT_FALSE(remove_stale_local_folder(path));
  std::filesystem::remove(path);
  std::filesystem::create_directory(temp / "precious");
  std::filesystem::create_directory_symlink(temp / "precious", path);
  EXPECT_FALSE(remove_stale_local_folder(path));
  EXPECT_TRUE(std::filesystem::exists(temp / "precious"));
}

TEST(HostPorts, AsksTheHookFirst) {
  nitro::testing::TempFolder temp;
  Fd ours;
  HostPorts ports(temp.path(), false, [&](std::uint32_t port) -> std::optional<Fd> {
    if (port != 9000) return std::nullopt;
    auto sockets = make_socket_pair();
    ours = std::move(sockets->first);
    return std::move(sockets->second);
  });
  auto result = ports.dial(9000);
  EXPECT_EQ(result.status, Status::kConnected);
  EXPECT_EQ(::send(ours.get(), "x", 1, 0), 1);
  char byte = 0;
  EXPECT_EQ(::recv(result.socket.get(), &byte, 1, 0), 1);
  EXPECT_EQ(ports.dial(9001).status, Status::kRefused);
}

TEST(HostPorts, ConnectsToTheSocketOfThePort) {
  nitro::testing::TempFolder temp;
  HostPorts ports(temp.path(), false, nullptr);
  EXPECT_EQ(ports.dial(7000).status, Status::kRefused);
  auto listener = listen_unix(temp / "port_7000", 0600);
  ASSERT_OK(listener);
  EXPECT_EQ(ports.dial(7000).status, Status::kConnected);
  listener->fd.reset();
  EXPECT_EQ(ports.dial(7000).status, Status::kRefused) << "the name is there, nobody listens";
}

TEST(HostPorts, IsBusyWhileTheBacklogIsFull) {
  nitro::testing::TempFolder temp;
  HostPorts ports(temp.path(), false, nullptr);
  auto listener = listen_unix(temp / "port_7000", 0600);
  ASSERT_OK(listener);
  ::listen(listener->fd.get(), 1);
  std::vector<VirtioVsock::DialResult> results;
  do results.push_back(ports.dial(7000));
  while (results.back().status == Status::kConnected && results.size() < 10);
  EXPECT_EQ(results.back().status, Status::kBusy);
}

class ConnectListenerTest : public testing::VsockFixture {
 protected:
  void SetUp() override {
    VsockFixture::SetUp();
    guest_->start();
    auto listener = ConnectListener::start(*loop_, path(), *device_);
    ASSERT_OK(listener);
    listener_ = std::move(*listener);
  }
  void TearDown() override {
    listener_.reset();
    VsockFixture::TearDown();
  }
  std::string path() const { return temp_ / "connect"; }
  Fd client() {
    auto socket = connect_unix(path());
    EXPECT_OK(socket);
    guest_->pump();
    return socket ? std::move(*socket) : Fd();
  }
  void say(int fd, std::string_view text) { write_host(fd, text); }

  nitro::testing::TempFolder temp_;
  std::unique_ptr<ConnectListener> listener_;
};

TEST_F(ConnectListenerTest, AnswersOkWhenTheGuestHasAcceptedAndKeepsWhatCameBehindTheLine) {
  const Fd socket = client();
  say(socket.get(), "CONNECT 5005\nand more");
  const auto request = guest_->expect(VsockOp::kRequest);
  EXPECT_EQ(request.header.destination_port, 5005U);
  EXPECT_EQ(read_host(socket.get()), "");
  guest_->send(VsockOp::kResponse, 5005, request.header.source_port);
  EXPECT_EQ(read_host(socket.get()), "OK " + std::to_string(request.header.source_port) + "\n");
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "and more");
  guest_->send(VsockOp::kData, 5005, request.header.source_port, "hello");
  EXPECT_EQ(read_host(socket.get()), "hello");
}

TEST_F(ConnectListenerTest, ReadsALineThatArrivesInPieces) {
  const Fd socket = client();
  for (const char c : std::string_view("CONNECT 5005\n")) say(socket.get(), std::string_view(&c, 1));
  guest_->expect(VsockOp::kRequest);
}

TEST_F(ConnectListenerTest, ClosesWhenTheGuestRefuses) {
  const Fd socket = client();
  say(socket.get(), "CONNECT 5005\n");
  const auto request = guest_->expect(VsockOp::kRequest);
  guest_->send(VsockOp::kReset, 5005, request.header.source_port);
  EXPECT_TRUE(at_end(socket.get()));
}

TEST_F(ConnectListenerTest, ClosesOnLinesItDoesNotUnderstand) {
  for (const char* line :
       {"HELLO\n", "CONNECT\n", "\n", "CONNECT 5005 please, and do it soon\n", "CONNECT 99999999999999999999999999"}) {
    const Fd socket = client();
    say(socket.get(), line);
    EXPECT_TRUE(at_end(socket.get())) << line;
  }
  EXPECT_FALSE(guest_->receive());
}

TEST_F(ConnectListenerTest, ClosesWhenTheLineIsNotThereInTime) {
  listener_.reset();
  const auto limit = std::chrono::milliseconds(100);
  auto listener = ConnectListener::start(*loop_, path(), *device_, limit);
  ASSERT_OK(listener);
  const auto begin = std::chrono::steady_clock::now();
  const Fd socket = client();
  say(socket.get(), "CONNECT 50");
  while (!at_end(socket.get())) ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
  EXPECT_GE(std::chrono::steady_clock::now(), begin + limit);
  EXPECT_FALSE(guest_->receive());
  // A client that has said all has the guest's time.
  const Fd quick = client();
  say(quick.get(), "CONNECT 5005\n");
  const auto request = guest_->expect(VsockOp::kRequest);
  pass(limit * 2);
  guest_->send(VsockOp::kResponse, 5005, request.header.source_port);
  EXPECT_TRUE(read_host(quick.get()).starts_with("OK "));
}

TEST_F(ConnectListenerTest, HasFiveSecondsForALineAndClosesWhenTheGuestTakesFiveToAnswer) {
  EXPECT_EQ(ConnectListener::kHandshakeTimeout, std::chrono::seconds(5));
  const Fd socket = client();
  say(socket.get(), "CONNECT 5005\n");
  guest_->expect(VsockOp::kRequest);
  pass(std::chrono::milliseconds(5000));
  EXPECT_EQ(read_host(socket.get()), "");
  EXPECT_TRUE(at_end(socket.get()));
}

TEST_F(ConnectListenerTest, MakesClientsWaitAtTheLimitOfDescriptorsWithoutSpinning) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  auto socket = connect_unix(path());
  ASSERT_OK(socket);
  say(socket->get(), "");
  auto waiting = connect_unix(path());
  ASSERT_OK(waiting);
  {
    const nitro::testing::DescriptorLimit limit;
    ASSERT_OK(loop_->run_once(std::chrono::milliseconds(0)));
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, AcceptGate::kPause / 2);
  }
  ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
  say(waiting->get(), "CONNECT 5005\n");
  guest_->expect(VsockOp::kRequest);
}

TEST_F(ConnectListenerTest, MakesClientsWaitWhileTooManySayNothing) {
  std::vector<Fd> silent;
  for (std::size_t i = 0; i < ConnectListener::kMaxHandshakes; ++i) silent.push_back(client());
  const Fd waiting = client();
  say(waiting.get(), "CONNECT 5005\n");
  EXPECT_FALSE(guest_->receive());
  silent.pop_back();
  guest_->pump();
  guest_->pump();
  guest_->expect(VsockOp::kRequest);
}

}  // namespace
}  // namespace nitro::proc
