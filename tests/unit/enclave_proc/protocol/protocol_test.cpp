// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/protocol/protocol.h"

#include <gtest/gtest.h>

#include "heap.h"
#include "src/base/bytes.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

/// The message without its length.
std::vector<std::byte> body(const std::string& framed) {
  return bytes_of(std::string_view(framed).substr(8));
}

// The expected bytes were recorded from the tools whose protocol this is.
TEST(Protocol, EncodesWhatTheReferenceSends) {
  EXPECT_EQ(to_hex(as_bytes(encode(Command::kDescribe))),
            "0900000000000000"
            "684465736372696265");
  EXPECT_EQ(to_hex(as_bytes(encode(Command::kTerminate))),
            "0a00000000000000"
            "695465726d696e617465");
  EXPECT_EQ(to_hex(as_bytes(encode(Command::kGetIdByName))),
            "0c00000000000000"
            "6b47657449446279"
            "4e616d65");
  EXPECT_EQ(to_hex(as_bytes(encode(Command::kGetEnclaveCid))),
            "0e00000000000000"
            "6d476574456e636c617665434944");
  EXPECT_EQ(to_hex(as_bytes(encode(Command::kGetEnclaveFlags))),
            "1000000000000000"
            "6f476574456e636c617665466c616773");
  EXPECT_EQ(to_hex(as_bytes(encode_describe_arguments(false))),
            "0b00000000000000"
            "a1686d65746164617461f4");
  EXPECT_EQ(to_hex(as_bytes(encode_describe_arguments(true))),
            "0b00000000000000"
            "a1686d65746164617461f5");
  EXPECT_EQ(to_hex(as_bytes(encode_name("image"))),
            "0600000000000000"
            "65696d616765");
  EXPECT_EQ(to_hex(as_bytes(encode_number(kConfirmation))), "c0ee000000000000");
  EXPECT_EQ(to_hex(as_bytes(encode(Reply(StatusReply{0})))),
            "0900000000000000"
            "a16653746174757300");
}

TEST(Protocol, LongTextsHaveTheShortestHead) {
  EXPECT_EQ(to_hex(body(encode(Reply(StdOutMessage{std::string(42, 'x')})))).substr(0, 34),
            "a16d5374644f75744d657373616765782a");
  EXPECT_EQ(to_hex(body(encode(Reply(StdOutMessage{std::string(642, 'x')})))).substr(0, 36),
            "a16d5374644f75744d657373616765790282");
}

TEST(Protocol, RepliesComeBackAsTheyWere) {
  const Reply replies[] = {
      StdOutMessage{"out\n"}, StdErrMessage{""},      StatusReply{0},         StatusReply{13},
      StatusReply{-1},        StatusReply{INT32_MAX}, StatusReply{INT32_MIN}, StdOutMessage{std::string(70000, 'y')}};
  for (const Reply& reply : replies) {
    const auto decoded = decode_reply(body(encode(reply)));
    ASSERT_OK(decoded);
    EXPECT_TRUE(*decoded == reply);
  }
}

TEST(Protocol, CommandsComeBackAsTheyWere) {
  for (int i = 0; i <= static_cast<int>(Command::kNotPermitted); ++i) {
    const auto decoded = decode_command(body(encode(static_cast<Command>(i))));
    ASSERT_OK(decoded);
    EXPECT_EQ(*decoded, static_cast<Command>(i));
  }
}

TEST(Protocol, RefusesWhatIsNoCommand) {
  for (const std::string& text : {std::string(),
                                  std::string("\x68"
                                              "Describ"),
                                  std::string("\x68"
                                              "describe"),
                                  std::string("\x41x"), std::string("\xff"),
                                  std::string("\xa1\x68"
                                              "Describe\xf6"),
                                  std::string("\x68"
                                              "Describe\x00",
                                              10),
                                  std::string("\x7b\xff\xff\xff\xff\xff\xff\xff\xff", 9)}) {
    const auto decoded = decode_command(bytes_of(text));
    ASSERT_FALSE(decoded) << to_hex(as_bytes(text));
    EXPECT_EQ(decoded.error().code(), ErrorCode::kInvalidCommand);
  }
}

TEST(Protocol, EveryTruncationOfAReplyIsRefused) {
  const auto whole = body(encode(Reply(StdErrMessage{"something"})));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(decode_reply(std::span(whole).first(size))) << size;
  }
  EXPECT_TRUE(decode_reply(whole));
}

TEST(Protocol, RefusesRepliesOfOtherShapes) {
  for (const std::string& text :
       {std::string("\xa2\x66Status\x00\x66Status\x00", 17), std::string("\xa1\x66Status\x61x"),
        std::string("\xa1\x66Statux\x00", 9), std::string("\xa1\x66Status\x1b\x00\x00\x00\x00\xff\xff\xff\xff", 17),
        std::string("\xbf\x66Status\x00\xff", 10)}) {
    EXPECT_FALSE(decode_reply(bytes_of(text))) << to_hex(as_bytes(text));
  }
}

TEST(MessageReader, PutsMessagesTogetherHoweverTheyArrive) {
  const std::string stream = encode_number(kConfirmation) + encode(Command::kDescribe) + encode(Reply(StatusReply{7}));
  for (std::size_t chunk = 1; chunk <= stream.size(); ++chunk) {
    MessageReader reader(1024);
    std::vector<std::vector<std::byte>> messages;
    bool confirmed = false;
    for (std::size_t at = 0; at < stream.size(); at += chunk) {
      reader.append(as_bytes(std::string_view(stream).substr(at, chunk)));
      if (!confirmed) {
        const auto number = reader.next_number();
        if (!number) continue;
        EXPECT_EQ(*number, kConfirmation);
        confirmed = true;
      }
      while (true) {
        auto message = reader.next_message();
        ASSERT_OK(message);
        if (!message->has_value()) break;
        messages.push_back(std::move(**message));
      }
    }
    ASSERT_EQ(messages.size(), 2U) << chunk;
    EXPECT_TRUE(reader.empty());
    EXPECT_EQ(*decode_command(messages[0]), Command::kDescribe);
  }
}

TEST(MessageReader, RefusesALengthBeyondTheLimitAtOnce) {
  MessageReader longest(100);
  longest.append(as_bytes(encode_number(100) + std::string(100, 'x')));
  const auto whole = longest.next_message();
  ASSERT_OK(whole);
  ASSERT_TRUE(whole->has_value());
  EXPECT_EQ((*whole)->size(), 100U);
  MessageReader reader(100);
  reader.append(as_bytes(encode_number(101)));
  const auto message = reader.next_message();
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().code(), ErrorCode::kInvalidCommand);
}

/// Messages of all lengths up to 300 bytes, the `number`th of which has bytes of its own.
std::string numbered_message(unsigned number) {
  return encode_number(number % 301) + std::string(number % 301, static_cast<char>(number % 251));
}

TEST(MessageReader, KeepsItsPlaceThroughALongStreamThatIsNeverReadToItsEnd) {
  // Most pieces end within a message, so something is left that must not be lost when what was read makes room.
  for (const std::size_t piece : {1U, 7U, 301U, 5000U, 20000U}) {
    std::string stream;
    for (unsigned number = 0; number < 2000; ++number) stream += numbered_message(number);
    MessageReader reader(1024);
    unsigned seen = 0;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.append(as_bytes(std::string_view(stream).substr(at, piece)));
      while (true) {
        const auto message = reader.next_message();
        ASSERT_OK(message);
        if (!message->has_value()) break;
        ASSERT_EQ(as_text(**message), numbered_message(seen).substr(8)) << seen << " in pieces of " << piece;
        ++seen;
      }
    }
    EXPECT_EQ(seen, 2000U) << piece;
    EXPECT_TRUE(reader.empty());
  }
}

TEST(MessageReader, HoldsWhatHasNotBeenReadAndLittleMore) {
  MessageReader reader(1024);
  const std::string message = encode_number(1000) + std::string(1000, 'x');
  reader.append(as_bytes(message.substr(0, 500)));
  const std::size_t before = testing::heap_bytes();
  for (int i = 0; i < 10'000; ++i) {
    reader.append(as_bytes(message.substr(500) + message.substr(0, 500)));
    const auto read = reader.next_message();
    ASSERT_OK(read);
    ASSERT_TRUE(read->has_value());
  }
  EXPECT_LT(testing::heap_bytes(), before + 64 * 1024) << "10 MB have passed";
}

}  // namespace
}  // namespace nitro::proc
