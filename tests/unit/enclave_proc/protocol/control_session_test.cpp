// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/protocol/control_session.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "enclave_proc/protocol/answer_reader.h"
#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

using Next = ControlSession::Next;

class ControlSessionTest : public ::testing::Test {
 protected:
  ControlSession session(bool owner = true) { return ControlSession(handlers_, owner); }
  static Next say(ControlSession& session, std::string_view bytes) { return session.take(as_bytes(bytes)); }

  /// What a client is told; nothing else may have been said.
  static Answer answer_of(const ControlSession& session, bool confirmed) {
    Answer answer;
    AnswerReader reader(answer, confirmed);
    EXPECT_TRUE(reader.take(as_bytes(session.reply())));
    EXPECT_TRUE(reader.at_end());
    return answer;
  }

  int ended_ = 0;
  ControlHandlers handlers_{.enclave_name = "image",
                            .enclave_id = "i-0-enc1",
                            .enclave_cid = 16,
                            .enclave_flags = 1,
                            .describe = [](bool metadata) { return std::string(metadata ? "{\"m\": 1}" : "{}"); },
                            .terminate =
                                [this] {
                                  ++ended_;
                                  return std::vector<Reply>{StatusReply{0}, StdOutMessage{"{}\n"}};
                                },
                            .on_terminated = [] {}};
};

TEST_F(ControlSessionTest, AnswersEverybodyWhoAsks) {
  const struct {
    std::string request;
    std::string output;
  } cases[] = {
      {encode_request(Command::kDescribe, encode_describe_arguments(false)), "{}\n"},
      {encode_request(Command::kDescribe, encode_describe_arguments(true)), "{\"m\": 1}\n"},
      {encode_request(Command::kGetEnclaveName), "\"image\"\n"},
      {encode_request(Command::kGetIdByName, encode_name("image")), "\"i-0-enc1\"\n"},
      {encode_request(Command::kGetIdByName, encode_name("other")), ""},
  };
  for (const bool owner : {true, false}) {
    for (const auto& one : cases) {
      ControlSession opened = session(owner);
      ASSERT_EQ(say(opened, one.request), Next::kReply) << one.request;
      const Answer answer = answer_of(opened, true);
      EXPECT_EQ(answer.standard_output, one.output) << one.request;
      EXPECT_EQ(answer.status, 0);
    }
    for (const auto& [command, number] :
         {std::pair(Command::kGetEnclaveCid, 16U), std::pair(Command::kGetEnclaveFlags, 1U)}) {
      ControlSession opened = session(owner);
      ASSERT_EQ(say(opened, encode_request(command)), Next::kReply);
      EXPECT_EQ(opened.reply(), encode_number(number));
    }
  }
}

TEST_F(ControlSessionTest, LetsOnlyTheOwnerChangeSomething) {
  for (const Command command : {Command::kRun, Command::kTerminate, Command::kTerminateComplete,
                                Command::kConnectionListenerStop, Command::kNotPermitted}) {
    ControlSession opened = session(false);
    ASSERT_EQ(say(opened, encode_request(command)), Next::kReply) << name_of(command);
    const Answer answer = answer_of(opened, false);
    EXPECT_EQ(answer.status, EACCES) << name_of(command);
    EXPECT_FALSE(answer.standard_error.empty());
    EXPECT_EQ(answer.standard_output, "");
    EXPECT_FALSE(opened.terminated());
  }
  EXPECT_EQ(ended_, 0);
  ControlSession owner = session();
  ASSERT_EQ(say(owner, encode_request(Command::kTerminate)), Next::kReply);
  EXPECT_TRUE(owner.terminated());
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(answer_of(owner, false).standard_output, "{}\n");
}

TEST_F(ControlSessionTest, TellsTheOwnerThatAnEnclaveRunsAlready) {
  ControlSession opened = session();
  ASSERT_EQ(say(opened, encode_request(Command::kRun)), Next::kReply);
  EXPECT_EQ(answer_of(opened, false).status, EEXIST);
}

TEST_F(ControlSessionTest, EndsWithoutAWordOnWhatIsNotTheProtocol) {
  const std::string bad[] = {
      encode_request(Command::kTerminateComplete),
      encode_request(Command::kConnectionListenerStop),
      encode_request(Command::kNotPermitted),
      encode(Command::kDescribe) + encode(Command::kTerminate),
      encode(Command::kTerminate) + encode(Command::kDescribe),
      encode_request(Command::kDescribe, encode_name("x")),
      encode_request(Command::kGetIdByName, encode_describe_arguments(true)),
      encode_name("Describer"),
      encode_number(0),
      std::string(8, '\xff'),
  };
  for (const std::string& bytes : bad) {
    ControlSession opened = session();
    EXPECT_EQ(say(opened, bytes), Next::kEnd) << to_hex(as_bytes(bytes));
    EXPECT_EQ(opened.reply(), "");
  }
  EXPECT_EQ(ended_, 0);
}

TEST_F(ControlSessionTest, AnswersNothingBeforeAllHasCome) {
  const std::string request = encode_request(Command::kGetIdByName, encode_name("image"));
  ControlSession opened = session();
  for (std::size_t at = 0; at + 1 < request.size(); ++at) {
    ASSERT_EQ(say(opened, std::string_view(request).substr(at, 1)), Next::kRead) << at;
    ASSERT_EQ(opened.reply(), "");
  }
  EXPECT_EQ(say(opened, std::string_view(request).substr(request.size() - 1)), Next::kReply);
}

TEST_F(ControlSessionTest, TakesMessagesOf64KiBAndRefusesLongerOnesByTheirLength) {
  // A text of 65 533 bytes has a head of three.
  const std::string longest = encode_name(std::string(65533, 'n'));
  ASSERT_EQ(longest.size(), 8U + 64 * 1024);
  ControlSession fits = session();
  EXPECT_EQ(say(fits, encode_request(Command::kGetIdByName, longest)), Next::kReply);
  EXPECT_EQ(answer_of(fits, true).standard_output, "");
  ControlSession too_long = session();
  EXPECT_EQ(say(too_long, encode_request(Command::kGetIdByName, encode_number(64 * 1024 + 1))), Next::kEnd);
  ControlSession at_once = session();
  EXPECT_EQ(say(at_once, encode_number(64 * 1024 + 1)), Next::kEnd);
}

TEST_F(ControlSessionTest, TellsNamesThatAreNoUnicodeAsJsonAllTheSame) {
  handlers_.enclave_name = "q\xfe";
  ControlSession opened = session();
  ASSERT_EQ(say(opened, encode_request(Command::kGetEnclaveName)), Next::kReply);
  EXPECT_EQ(answer_of(opened, true).standard_output, "\"q\xef\xbf\xbd\"\n");
}

}  // namespace
}  // namespace nitro::proc
