// SPDX-License-Identifier: Apache-2.0
// What passed over the socket between nitro-cli and an enclave process of the reference (1.5.0), byte for byte, played
// to our server and to our client. tests/data/socket has a file for each command: lines of hexadecimal digits with who
// sent them. They were recorded by a program between the two; the enclave was one of the stand-in
// (tests/support/nitro_device), in debug mode and called "image".
#include <sys/socket.h>

#include <array>
#include <sstream>

#include "enclave_proc/client/client.h"
#include "enclave_proc/control_server.h"
#include "enclave_proc/registry/published_socket.h"
#include "src/base/bytes.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

using testing::TempFolder;

struct Recorded {
  std::string client;   ///< all that the client sent
  std::string process;  ///< all that the process answered
};

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

Recorded recorded(const std::string& name) {
  Recorded result;
  std::istringstream lines(testing::read_file(std::string(NITRO_TEST_DATA) + "/socket/" + name));
  std::string who;
  std::string hex;
  while (lines >> who >> hex) (who == "client" ? result.client : result.process) += from_hex(hex);
  EXPECT_FALSE(result.client.empty() || result.process.empty()) << name;
  return result;
}

/// The text for stdout in an answer, as the recorded process made it.
std::string standard_output(const Recorded& from, bool confirmed) {
  MessageReader reader(kMaxReplyBytes);
  reader.append(as_bytes(from.process));
  if (confirmed) {
    EXPECT_EQ(reader.next_number(), kConfirmation);
  }
  std::string text;
  while (true) {
    auto message = reader.next_message();
    if (!message || !message->has_value()) return text;
    const auto reply = decode_reply(**message);
    EXPECT_OK(reply);
    if (const auto* out = std::get_if<StdOutMessage>(&*reply)) text += out->text;
  }
}

/// A server for the enclave that was recorded.
ControlHandlers recorded_enclave() {
  const auto without_newline = [](std::string text) { return text.substr(0, text.size() - 1); };
  const std::string id = standard_output(recorded("id-by-name"), true);
  return {
      .enclave_name = "image",
      .enclave_id = id.substr(1, id.size() - 3),  // a JSON string and a newline
      .enclave_cid = 16,
      .enclave_flags = 1,
      .describe =
          [=](bool with_metadata) {
            return without_newline(standard_output(recorded(with_metadata ? "describe-metadata" : "describe"), true));
          },
      .terminate =
          [=] {
            return std::vector<Reply>{
                StatusReply{0}, StdErrMessage{"Successfully terminated enclave " + id.substr(1, id.size() - 3) + ".\n"},
                StdOutMessage{standard_output(recorded("terminate"), false)}};
          },
      .on_terminated = [] {}};
}

/// What our server answers to `request`, until it closes the connection.
std::string answer(const std::string& request) {
  const TempFolder folder;
  const auto loop = EventLoop::create().value();
  const auto sockets = SocketsFolder::open(folder.path(), SocketsFolder::Kind::kPrivate).value();
  const auto server =
      ControlServer::start(*loop, PublishedSocket::publish(sockets, "1.sock", 0600).value(), recorded_enclave())
          .value();
  const Fd client = connect_unix(folder / "1.sock").value();
  EXPECT_OK(write_all(client.get(), as_bytes(request)));
  std::string text;
  std::array<char, 4096> buffer;
  for (int turn = 0; turn < 1000; ++turn) {
    EXPECT_OK(loop->run_once(std::chrono::milliseconds(0)));
    const ssize_t count = ::recv(client.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count > 0) text.append(buffer.data(), static_cast<std::size_t>(count));
    if (count == 0) return text;
  }
  ADD_FAILURE() << "the connection stays open";
  return text;
}

/// Our end of a connection whose other end, `process`, has answered already.
Connection answered(const Recorded& by, Fd& process) {
  auto ends = make_socket_pair().value();
  EXPECT_OK(write_all(ends.second.get(), as_bytes(by.process)));
  ::shutdown(ends.second.get(), SHUT_WR);
  process = std::move(ends.second);
  return Connection{.socket = std::move(ends.first), .path = "recorded"};
}

/// What was sent to `process`.
std::string sent_to(const Fd& process) {
  std::string text(1000, '\0');
  text.resize(read_full(process.get(), std::as_writable_bytes(std::span(text))).value());
  return text;
}

class Recordings : public ::testing::TestWithParam<const char*> {};

TEST_P(Recordings, AreAnsweredAsTheReferenceAnswers) {
  const Recorded expected = recorded(GetParam());
  EXPECT_EQ(to_hex(as_bytes(answer(expected.client))), to_hex(as_bytes(expected.process)));
}

INSTANTIATE_TEST_SUITE_P(OfTheReference, Recordings,
                         ::testing::Values("describe", "describe-metadata", "name", "id-by-name", "id-by-name-other",
                                           "cid", "flags", "terminate"),
                         [](const auto& one) {
                           std::string name = one.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(RecordedAnswers, AreUnderstoodAndWereAskedForAlike) {
  struct Case {
    const char* name;
    std::string request;
    bool confirmed;
  };
  const Case cases[] = {
      {"describe", encode_request(Command::kDescribe, encode_describe_arguments(false)), true},
      {"describe-metadata", encode_request(Command::kDescribe, encode_describe_arguments(true)), true},
      {"name", encode_request(Command::kGetEnclaveName), true},
      {"id-by-name", encode_request(Command::kGetIdByName, encode_name("image")), true},
      {"id-by-name-other", encode_request(Command::kGetIdByName, encode_name("other")), true},
      {"terminate", encode_request(Command::kTerminate), false},
  };
  for (const Case& one : cases) {
    const Recorded expected = recorded(one.name);
    Fd process;
    std::vector<Connection> connections;
    connections.push_back(answered(expected, process));
    const auto answers = ask_all(std::move(connections), one.request, one.confirmed, kAnswerTimeout);
    ASSERT_OK(answers);
    EXPECT_TRUE(answers->at(0).complete) << one.name;
    EXPECT_EQ(answers->at(0).status, 0) << one.name;
    EXPECT_EQ(answers->at(0).standard_output, standard_output(expected, one.confirmed)) << one.name;
    EXPECT_EQ(to_hex(as_bytes(sent_to(process))), to_hex(as_bytes(expected.client))) << one.name;
  }
}

TEST(RecordedAnswers, OfNumbersAreUnderstoodAndWereAskedForAlike) {
  for (const auto& [name, command, number] : {std::tuple("cid", Command::kGetEnclaveCid, std::uint64_t{16}),
                                              std::tuple("flags", Command::kGetEnclaveFlags, std::uint64_t{1})}) {
    const Recorded expected = recorded(name);
    Fd process;
    const auto told = ask_number(answered(expected, process), command);
    ASSERT_OK(told);
    EXPECT_EQ(*told, number);
    EXPECT_EQ(to_hex(as_bytes(sent_to(process))), to_hex(as_bytes(expected.client))) << name;
  }
}

}  // namespace
}  // namespace nitro::proc
