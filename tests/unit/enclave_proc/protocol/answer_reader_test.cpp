// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/protocol/answer_reader.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

/// Whether a reader with a limit of 100 bytes takes these replies. Each message is shorter than that.
bool takes(const std::vector<Reply>& replies, Answer& answer) {
  AnswerReader reader(answer, false, 100);
  for (const Reply& reply : replies) {
    if (!reader.take(as_bytes(encode(reply)))) return false;
  }
  return reader.at_end();
}

std::string text(std::size_t size) {
  return std::string(size, 't');
}

TEST(AnswerReader, PutsTheTextsTogetherByTheirKind) {
  Answer answer;
  ASSERT_TRUE(
      takes({StdOutMessage{"a"}, StdErrMessage{"1"}, StdOutMessage{"b"}, StatusReply{7}, StdErrMessage{"2"}}, answer));
  EXPECT_EQ(answer.standard_output, "ab");
  EXPECT_EQ(answer.standard_error, "12");
  EXPECT_EQ(answer.status, 7);
}

TEST(AnswerReader, HoldsSoManyBytesOfTextsAndNoMoreWhateverTheirKind) {
  Answer answer;
  EXPECT_TRUE(takes({StdOutMessage{text(60)}, StdOutMessage{text(40)}, StatusReply{0}}, answer));
  EXPECT_EQ(answer.standard_output.size(), 100U);
  const std::vector<Reply> too_much[] = {
      {StdOutMessage{text(60)}, StdOutMessage{text(41)}},
      {StdErrMessage{text(60)}, StdErrMessage{text(41)}},
      {StdOutMessage{text(60)}, StdErrMessage{text(41)}},
      {StdErrMessage{text(60)}, StdOutMessage{text(41)}},
  };
  for (const auto& replies : too_much) {
    Answer refused;
    EXPECT_FALSE(takes(replies, refused));
    EXPECT_EQ(refused.standard_output.size() + refused.standard_error.size(), 60U);
  }
}

TEST(AnswerReader, RefusesAMessageBeyondTheLimitByItsLength) {
  Answer answer;
  AnswerReader reader(answer, false, 100);
  EXPECT_TRUE(reader.take(as_bytes(encode_number(100))));
  AnswerReader other(answer, false, 100);
  EXPECT_FALSE(other.take(as_bytes(encode_number(101))));
}

TEST(AnswerReader, TakesMessagesOf64MiBAndNoLonger) {
  constexpr std::uint64_t kLimit = std::uint64_t{64} << 20;
  Answer answer;
  AnswerReader reader(answer, true);
  EXPECT_TRUE(reader.take(as_bytes(encode_number(kConfirmation) + encode_number(kLimit))));
  AnswerReader other(answer, true);
  EXPECT_FALSE(other.take(as_bytes(encode_number(kConfirmation) + encode_number(kLimit + 1))));
}

TEST(AnswerReader, WantsTheConfirmationFirst) {
  Answer answer;
  AnswerReader reader(answer, true);
  EXPECT_FALSE(reader.at_end());
  EXPECT_TRUE(reader.take(as_bytes(encode_number(kConfirmation).substr(0, 7))));
  EXPECT_FALSE(reader.at_end());
  EXPECT_TRUE(reader.take(as_bytes(encode_number(kConfirmation).substr(7))));
  EXPECT_TRUE(reader.at_end());
  AnswerReader other(answer, true);
  EXPECT_FALSE(other.take(as_bytes(encode_number(kConfirmation + 1))));
}

TEST(AnswerReader, EndsBetweenMessagesOnly) {
  const std::string message = encode(Reply(StatusReply{0}));
  for (std::size_t size = 0; size <= message.size(); ++size) {
    Answer answer;
    AnswerReader reader(answer, false);
    ASSERT_TRUE(reader.take(as_bytes(std::string_view(message).substr(0, size))));
    EXPECT_EQ(reader.at_end(), size == 0 || size == message.size()) << size;
  }
}

}  // namespace
}  // namespace nitro::proc
