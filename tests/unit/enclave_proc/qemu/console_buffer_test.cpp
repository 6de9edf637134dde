// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/console_buffer.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>

#include "descriptor_limit.h"
#include "enclave_proc/qemu/vsock/byte_ring.h"
#include "src/base/bytes.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

TEST(ByteRing, GivesBackWhatItTookInOrder) {
  ByteRing ring(10);
  std::string expected;
  std::string got;
  char next = 'a';
  for (int round = 0; round < 100; ++round) {
    std::string text;
    for (int i = 0; i < 7; ++i) text += next = next == 'z' ? 'a' : static_cast<char>(next + 1);
    const std::size_t taken = ring.push(as_bytes(text));
    expected += text.substr(0, taken);
    EXPECT_LE(ring.size(), 10U);
    std::string all;
    for (const iovec& piece : ring.pieces()) all.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    EXPECT_EQ(all.size(), ring.size());
    const std::size_t drop = std::min<std::size_t>(all.size(), 1 + static_cast<std::size_t>(round) % 10);
    got += all.substr(0, drop);
    ring.pop(drop);
    if (ring.empty()) ring.release();
  }
  EXPECT_EQ(got, expected.substr(0, got.size()));
  EXPECT_GT(got.size(), 300U);
}

std::string all_of(const ConsoleBuffer& buffer, std::uint64_t position) {
  std::string text;
  while (position < buffer.end()) {
    const auto piece = buffer.from(position);
    text += as_text(piece);
    position += piece.size();
  }
  return text;
}

TEST(ConsoleBuffer, KeepsTheLatestBytes) {
  ConsoleBuffer buffer(10);
  buffer.append(as_bytes("hello"));
  EXPECT_EQ(buffer.begin(), 0U);
  EXPECT_EQ(all_of(buffer, 0), "hello");
  buffer.append(as_bytes("-world"));
  EXPECT_EQ(buffer.begin(), 1U);
  EXPECT_EQ(buffer.end(), 11U);
  EXPECT_EQ(all_of(buffer, 1), "ello-world");
  EXPECT_EQ(all_of(buffer, 6), "world");
  EXPECT_EQ(buffer.tail(3), "rld");
  buffer.append(as_bytes("0123456789abcdefghijklmnopq"));
  EXPECT_EQ(buffer.end(), 38U);
  EXPECT_EQ(all_of(buffer, buffer.begin()), "hijklmnopq");
  EXPECT_EQ(buffer.tail(100), "hijklmnopq");
}

TEST(ConsoleBuffer, TakesMoreThanItHoldsAtOnceFromTheStart) {
  ConsoleBuffer buffer(4);
  buffer.append(as_bytes("0123456789"));
  EXPECT_EQ(buffer.begin(), 6U);
  EXPECT_EQ(all_of(buffer, 6), "6789");
  buffer.append(as_bytes("a"));
  EXPECT_EQ(all_of(buffer, buffer.begin()), "789a");
}

class ConsoleServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
    server_ = std::make_unique<ConsoleServer>(*loop_);
  }
  Fd reader() {
    auto sockets = make_socket_pair();
    EXPECT_OK(sockets);
    server_->add_reader(std::move(sockets->first));
    return std::move(sockets->second);
  }
  void pump() {
    for (int i = 0; i < 8; ++i) EXPECT_OK(loop_->run_once(std::chrono::milliseconds(0)));
  }
  std::string read(int fd) {
    pump();
    std::string text;
    char piece[4096];
    for (;;) {
      const ssize_t got = ::recv(fd, piece, sizeof piece, MSG_DONTWAIT);
      if (got <= 0) return text;
      text.append(piece, static_cast<std::size_t>(got));
      pump();
    }
  }
  static bool at_end(int fd) {
    char byte = 0;
    return ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ConsoleServer> server_;
};

TEST_F(ConsoleServerTest, GivesEachReaderWhatWasPrintedAndThenWhatFollows) {
  server_->append(as_bytes("boot\n"));
  const Fd first = reader();
  EXPECT_EQ(read(first.get()), "boot\n");
  server_->append(as_bytes("more\n"));
  const Fd second = reader();
  EXPECT_EQ(read(first.get()), "more\n");
  EXPECT_EQ(read(second.get()), "boot\nmore\n");
}

TEST_F(ConsoleServerTest, TellsASlowReaderHowMuchItMissed) {
  const Fd slow = reader();
  const Fd quick = reader();
  pump();
  const std::string block(65536, 'c');
  const std::size_t total = block.size() * 80;
  std::string seen;
  for (int i = 0; i < 80; ++i) {
    server_->append(as_bytes(block));
    seen += read(quick.get());
  }
  EXPECT_EQ(seen.size(), total) << "a slow reader does not hold up others";
  const std::string text = read(slow.get());
  const std::size_t marker = text.find("\n… ");
  ASSERT_NE(marker, std::string::npos);
  const std::size_t lost = std::stoul(text.substr(marker + std::string("\n… ").size()));
  const std::size_t marker_size = text.find("lost …\n") + std::string("lost …\n").size() - marker;
  EXPECT_EQ(text.size() - marker_size + lost, total);
}

TEST_F(ConsoleServerTest, ClosesReadersWhenTheyHaveAllAndNothingMoreComes) {
  const Fd idle = reader();
  pump();
  server_->append(as_bytes("last\n"));
  server_->finish();
  EXPECT_EQ(read(idle.get()), "last\n");
  EXPECT_TRUE(at_end(idle.get()));
  const Fd late = reader();
  EXPECT_EQ(read(late.get()), "last\n");
  EXPECT_TRUE(at_end(late.get()));
  EXPECT_EQ(server_->reader_count(), 0U);
}

TEST_F(ConsoleServerTest, ForgetsReadersThatGo) {
  { const Fd gone = reader(); }
  pump();
  EXPECT_EQ(server_->reader_count(), 0U);
  server_->append(as_bytes("x"));
}

TEST_F(ConsoleServerTest, IgnoresWhatReadersSay) {
  const Fd talker = reader();
  EXPECT_EQ(::send(talker.get(), "hello?", 6, 0), 6);
  pump();
  server_->append(as_bytes("x"));
  EXPECT_EQ(read(talker.get()), "x");
}

TEST_F(ConsoleServerTest, RefusesMoreReadersThanItServes) {
  std::vector<Fd> readers;
  for (std::size_t i = 0; i < ConsoleServer::kMaxReaders; ++i) readers.push_back(reader());
  const Fd extra = reader();
  EXPECT_TRUE(at_end(extra.get()));
}

TEST_F(ConsoleServerTest, NeitherSpinsNorForgetsReadersAtTheLimitOfDescriptors) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  nitro::testing::TempFolder folder;
  ASSERT_OK(server_->listen(folder / "console"));
  server_->append(as_bytes("boot\n"));
  auto socket = connect_unix(folder / "console");
  ASSERT_OK(socket);
  {
    const nitro::testing::DescriptorLimit limit;
    ASSERT_OK(loop_->run_once(std::chrono::milliseconds(0)));
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, AcceptGate::kPause / 2);
  }
  while (server_->reader_count() == 0) ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
  EXPECT_EQ(read(socket->get()), "boot\n");
}

TEST_F(ConsoleServerTest, ListensOnASocket) {
  nitro::testing::TempFolder folder;
  ASSERT_OK(server_->listen(folder / "console"));
  server_->append(as_bytes("boot\n"));
  auto socket = connect_unix(folder / "console");
  ASSERT_OK(socket);
  EXPECT_EQ(read(socket->get()), "boot\n");
}

}  // namespace
}  // namespace nitro::proc
