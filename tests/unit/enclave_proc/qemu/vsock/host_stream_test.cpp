// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/host_stream.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

constexpr std::size_t kBuffer = 1000;

class HostStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto sockets = make_socket_pair();
    ASSERT_OK(sockets);
    program_ = std::move(sockets->second);
    stream_.connect(std::move(sockets->first));
  }
  /// Writes a text of two pieces.
  HostStream::Written write(std::string text) {
    const std::size_t half = text.size() / 2;
    std::vector<iovec> pieces = {{text.data(), half}, {text.data() + half, text.size() - half}};
    return stream_.write(pieces);
  }
  /// Fills the socket, so that what is written next is kept; returns how many bytes that took.
  std::size_t fill() {
    std::size_t filled = 0;
    while (stream_.buffered_bytes() == 0) filled += write(std::string(500, '-')).bytes;
    return filled;
  }
  /// What the program can read of `count` bytes.
  std::string read(std::size_t count) const {
    std::string text(count, '\0');
    const ssize_t got = ::recv(program_.get(), text.data(), count, MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

  Fd program_;
  HostStream stream_{kBuffer};
};

TEST_F(HostStreamTest, WritesToTheSocketAsLongAsThatTakesItAndKeepsTheRest) {
  EXPECT_EQ(write("hello").bytes, 5U);
  EXPECT_EQ(stream_.buffered_bytes(), 0U);
  EXPECT_EQ(read(10), "hello");
  fill();
  EXPECT_LE(stream_.buffered_bytes(), 500U);
  const std::size_t kept = stream_.buffered_bytes();
  EXPECT_EQ(write("abc").bytes, 0U);
  EXPECT_EQ(stream_.buffered_bytes(), kept + 3);
}

TEST_F(HostStreamTest, KeepsTheOrderWhenTheSocketHasRoomBeforeWhatWasKeptHasLeft) {
  std::size_t left = fill() + stream_.buffered_bytes();
  ASSERT_EQ(write("first ").bytes, 0U);
  // The program has read something, and nobody has looked yet.
  for (const std::size_t half = left / 2; left > half;) left -= read(left - half).size();
  EXPECT_EQ(write("second").bytes, 0U);
  stream_.flush();
  std::string text;
  for (std::string piece = read(1 << 20); !piece.empty(); piece = read(1 << 20)) {
    text += piece;
    stream_.flush();
  }
  EXPECT_EQ(text, std::string(left, '-') + "first second");
  EXPECT_EQ(stream_.buffered_bytes(), 0U);
}

TEST_F(HostStreamTest, TellsTheEndBehindWhatWasKept) {
  std::size_t left = fill() + stream_.buffered_bytes();
  stream_.finish();
  while (left > 0) {
    const std::string piece = read(1 << 20);
    ASSERT_FALSE(piece.empty());
    left -= piece.size();
    stream_.flush();
  }
  char byte = 0;
  EXPECT_EQ(::recv(program_.get(), &byte, 1, MSG_DONTWAIT), 0);
}

TEST_F(HostStreamTest, DropsWhatWasKeptForAProgramThatIsGone) {
  fill();
  program_.reset();
  EXPECT_TRUE(stream_.flush().failed);
  EXPECT_EQ(stream_.buffered_bytes(), 0U);
  EXPECT_TRUE(write("more").failed);
  EXPECT_EQ(stream_.buffered_bytes(), 0U);
}

TEST_F(HostStreamTest, ReadsBytesThenNothingThenTheEnd) {
  std::string target(10, '\0');
  std::vector<iovec> pieces = {{target.data(), 4}, {target.data() + 4, 6}};
  EXPECT_EQ(stream_.read(pieces).got, HostStream::Got::kNothingNow);
  EXPECT_EQ(::send(program_.get(), "hello", 5, 0), 5);
  const HostStream::Read read = stream_.read(pieces);
  EXPECT_EQ(read.got, HostStream::Got::kBytes);
  EXPECT_EQ(target.substr(0, read.bytes), "hello");
  ::shutdown(program_.get(), SHUT_WR);
  EXPECT_EQ(stream_.read(pieces).got, HostStream::Got::kEnd);
}

}  // namespace
}  // namespace nitro::proc
