// SPDX-License-Identifier: Apache-2.0
// The control server and the client functions against each other, over real sockets.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "enclave_proc/client.h"
#include "enclave_proc/control_server.h"
#include "enclave_proc/machine/enclave_id.h"
#include "enclave_proc/registry/published_socket.h"
#include "src/base/bytes.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

using std::chrono::milliseconds;
using testing::TempFolder;

SocketsFolder opened(const TempFolder& folder) {
  return SocketsFolder::open(folder.path(), SocketsFolder::Kind::kConfigured).value();
}

/// A control server on a thread of its own, as the enclave process runs it.
class Server {
 public:
  Server(const TempFolder& folder, const std::string& socket, std::string name, std::string id) {
    loop_ = EventLoop::create().value();
    ControlHandlers handlers{
        .enclave_name = std::move(name),
        .enclave_id = std::move(id),
        .enclave_cid = 16,
        .enclave_flags = 1,
        .describe = [](bool metadata) { return metadata ? std::string("{\"m\": 1}") : std::string("{}"); },
        .terminate =
            [this] {
              server_->stop_listening();
              return std::vector<Reply>{StatusReply{0}, StdErrMessage{"done\n"}, StdOutMessage{"{\"t\": true}\n"}};
            },
        .on_terminated = [this] { loop_->stop(); }};
    server_ = ControlServer::start(*loop_, PublishedSocket::publish(opened(folder), socket, 0766).value(),
                                   std::move(handlers))
                  .value();
    wake_ = make_socket_pair().value();
    wake_watch_ = loop_->watch_fd(wake_.first.get(), EPOLLIN, [this](std::uint32_t) { loop_->stop(); }).value();
    thread_ = std::thread([this] { EXPECT_OK(loop_->run()); });
  }
  ~Server() {
    EXPECT_OK(write_all(wake_.second.get(), as_bytes("x")));
    thread_.join();
  }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ControlServer> server_;
  std::pair<Fd, Fd> wake_;
  EventLoop::Watch wake_watch_;
  std::thread thread_;
};

TEST(Control, DescribesWithAndWithoutMetadata) {
  const TempFolder folder;
  const Server server(folder, "1.sock", "a", "i-0-enc1");
  for (const bool metadata : {false, true}) {
    auto connections = connect_to_all({opened(folder)});
    ASSERT_OK(connections);
    ASSERT_EQ(connections->size(), 1U);
    auto answers =
        ask_all(std::move(*connections), encode_request(Command::kDescribe) + encode_describe_arguments(metadata), true,
                kAnswerTimeout);
    ASSERT_OK(answers);
    EXPECT_TRUE(answers->at(0).complete);
    EXPECT_EQ(answers->at(0).status, 0);
    EXPECT_EQ(answers->at(0).standard_output, metadata ? "{\"m\": 1}\n" : "{}\n");
  }
}

TEST(Control, TellsCidFlagsAndNames) {
  const TempFolder folder;
  const Server a(folder, "1.sock", "a", "i-0-enc1");
  const Server b(folder, "2.sock", "b", "i-0-enc2");
  const std::vector<SocketsFolder> folders = {opened(folder)};
  auto connection = connect_to("i-0-enc2", folders);
  ASSERT_OK(connection);
  const auto cid = ask_number(std::move(*connection), Command::kGetEnclaveCid);
  ASSERT_OK(cid);
  EXPECT_EQ(*cid, 16U);
  const auto flags = ask_number(*connect_to("i-0-enc2", folders), Command::kGetEnclaveFlags);
  ASSERT_OK(flags);
  EXPECT_EQ(*flags, 1U);
  EXPECT_EQ(enclave_names(folders)->texts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(*id_of("b", folders), "i-0-enc2");
  const auto unknown = id_of("c", folders);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), ErrorCode::kEnclaveNaming);
}

TEST(Control, TerminateAnswersInTheReferencesOrderAndTheSocketIsGone) {
  const TempFolder folder;
  const Server server(folder, "1.sock", "a", "i-0-enc1");
  std::vector<Connection> connections;
  connections.push_back(*connect_to("i-0-enc1", {opened(folder)}));
  auto answers = ask_all(std::move(connections), encode_request(Command::kTerminate), false, kTerminateTimeout);
  ASSERT_OK(answers);
  EXPECT_TRUE(answers->at(0).complete);
  EXPECT_EQ(answers->at(0).standard_error, "done\n");
  EXPECT_EQ(answers->at(0).standard_output, "{\"t\": true}\n");
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(Control, ASocketBehindWhichNobodyListensIsRemoved) {
  const TempFolder folder;
  // Bound, and closed without removing the name: what a killed process leaves.
  auto listener = listen_unix(folder / "dead.sock", 0600);
  ASSERT_OK(listener);
  [[maybe_unused]] const std::string kept = listener->path.release();
  listener->fd.reset();
  EXPECT_EQ(folder.entries(), 1U);
  EXPECT_TRUE(connect_to_all({opened(folder)})->empty());
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(Control, AProcessThatEndsWhileItIsAskedIsLeftOut) {
  const TempFolder folder;
  const Server alive(folder, "alive.sock", "a", "i-0-enc1");
  auto killed = listen_unix(folder / "killed.sock", 0600);
  ASSERT_OK(killed);
  auto ended = listen_unix(folder / "ended.sock", 0600);
  ASSERT_OK(ended);
  auto stuck = listen_unix(folder / "stuck.sock", 0600);
  ASSERT_OK(stuck);
  auto connections = connect_to_all({opened(folder)});
  ASSERT_OK(connections);
  ASSERT_EQ(connections->size(), 4U);
  [[maybe_unused]] const std::string kept = killed->path.release();
  killed->fd.reset();
  *ended = UnixListener();
  auto answers = ask_all(std::move(*connections), encode_request(Command::kGetEnclaveName), true, milliseconds(200));
  ASSERT_OK(answers);
  EXPECT_EQ(answers->size(), 4U);
  leave_out_ended(*answers, {opened(folder)});
  ASSERT_EQ(answers->size(), 2U);
  EXPECT_TRUE(answers->at(0).complete);
  EXPECT_EQ(answers->at(1).path, folder / "stuck.sock");
  EXPECT_EQ(folder.entries(), 2U);
}

TEST(Control, StuckProcessesCostOneTimeoutTogetherAndTheOthersAreListed) {
  const TempFolder folder;
  const Server alive(folder, "alive.sock", "a", "i-0-enc1");
  std::vector<UnixListener> stuck;
  for (int i = 0; i < 20; ++i) stuck.push_back(*listen_unix(folder / ("stuck" + std::to_string(i) + ".sock"), 0600));
  auto connections = connect_to_all({opened(folder)});
  ASSERT_OK(connections);
  ASSERT_EQ(connections->size(), 21U);
  const auto start = std::chrono::steady_clock::now();
  auto answers = ask_all(std::move(*connections), encode_request(Command::kGetEnclaveName), true, milliseconds(200));
  ASSERT_OK(answers);
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(2000));
  EXPECT_TRUE(answers->front().complete);
  EXPECT_EQ(std::count_if(answers->begin(), answers->end(), [](const Answer& answer) { return answer.complete; }), 1);
}

TEST(Control, HostileClientsNeitherStopNorGrowTheServer) {
  const TempFolder folder;
  const Server server(folder, "1.sock", "a", "i-0-enc1");
  std::vector<Fd> clients;
  const std::string garbage[] = {"",
                                 std::string(8, '\xff'),
                                 encode_number(1) + "\xff",
                                 encode_number(0),
                                 encode(Command::kDescribe),
                                 encode(Command::kDescribe) + encode(Command::kTerminate),
                                 encode_request(Command::kDescribe) + encode_number(60000),
                                 encode_request(Command::kDescribe) + encode_name("x"),
                                 encode_request(Command::kConnectionListenerStop),
                                 encode_request(Command::kTerminateComplete),
                                 encode_request(Command::kNotPermitted),
                                 encode_request(Command::kRun)};
  for (int round = 0; round < 60; ++round) {
    for (const std::string& text : garbage) {
      auto client = connect_unix(folder / "1.sock");
      ASSERT_OK(client);
      EXPECT_OK(write_all(client->get(), as_bytes(text)));
      // Some stay and never read, so that more connect than are served at once.
      if (text.empty() || round % 2 == 0) clients.push_back(std::move(*client));
      if (clients.size() > 400) clients.erase(clients.begin(), clients.begin() + 100);
    }
  }
  auto names = enclave_names({opened(folder)});
  ASSERT_OK(names);
  EXPECT_EQ(names->texts, std::vector<std::string>{"a"});
}

TEST(Control, RunIsAnsweredWithAlreadyThere) {
  const TempFolder folder;
  const Server server(folder, "1.sock", "a", "i-0-enc1");
  auto answers = ask_all(*connect_to_all({opened(folder)}), encode_request(Command::kRun), false, kAnswerTimeout);
  ASSERT_OK(answers);
  EXPECT_EQ(answers->at(0).status, EEXIST);
}

/// A process whose answer is `bytes`, whatever it is asked.
class Talker {
 public:
  Talker(const std::string& path, std::string bytes) : listener_(listen_unix(path, 0600).value()) {
    EXPECT_OK(set_nonblocking(listener_.fd.get(), false));
    thread_ = std::thread([this, bytes = std::move(bytes)] {
      const Fd client(::accept4(listener_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::array<std::byte, 4096> request;
      [[maybe_unused]] const ssize_t ignored = ::recv(client.get(), request.data(), request.size(), 0);
      EXPECT_OK(write_all(client.get(), as_bytes(bytes)));
    });
  }
  ~Talker() { thread_.join(); }

 private:
  UnixListener listener_;
  std::thread thread_;
};

TEST(Control, AnAnswerThatNobodyCanReadIsNamedAndHidesItsOwnEnclaveOnly) {
  for (const std::string& bytes :
       {encode_number(kConfirmation) + encode(StdOutMessage{"\"q\xfe\"\n"}) + encode(StatusReply{0}),
        encode_number(kConfirmation) + encode(StdOutMessage{"{"}) + encode(StatusReply{0}),
        encode_number(kConfirmation) + encode_number(2) + "\xff\xff", std::string(8, 'x')}) {
    const TempFolder folder;
    const Server server(folder, "1.sock", "a", "i-0-enc1");
    const Talker talker(folder / "2.sock", bytes);
    const auto names = enclave_names({opened(folder)});
    ASSERT_OK(names);
    EXPECT_EQ(names->texts, std::vector<std::string>{"a"});
    EXPECT_EQ(names->unreadable, std::vector<std::string>{folder / "2.sock"});
  }
}

TEST(EnclaveId, SocketsAreNamedAfterTheSlot) {
  EXPECT_EQ(*socket_name("i-0123456789abcdef0-enc1234567890abf08c"), "1234567890abf08c.sock");
  EXPECT_EQ(*socket_name("foo"), "foo.sock");
  for (const char* id : {"", "a/b", "i-0-enc", "i-0-enc../x"}) EXPECT_FALSE(socket_name(id)) << id;
  EXPECT_TRUE(enclave_id(0x1234567890abf08c).ends_with("-enc1234567890abf08c"));
}

}  // namespace
}  // namespace nitro::proc
