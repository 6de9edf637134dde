// SPDX-License-Identifier: Apache-2.0
// The control server and the client functions against each other, over real sockets.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <thread>

#include "enclave_proc/client/client.h"
#include "enclave_proc/control_server.h"
#include "enclave_proc/machine/enclave_id.h"
#include "enclave_proc/registry/published_socket.h"
#include "heap.h"
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

/// A process that has said all before it is asked, so that its answer is there however little time there is.
class QuickProcess {
 public:
  QuickProcess() : sockets_(make_socket_pair().value()) {
    EXPECT_OK(write_all(process().get(), as_bytes(encode_number(kConfirmation) + encode(StdOutMessage{"\"a\"\n"}) +
                                                  encode(StatusReply{0}))));
    ::shutdown(process().get(), SHUT_WR);
  }
  /// To be called once.
  Connection connection(const std::string& path) { return {.socket = std::move(sockets_.first), .path = path}; }

 private:
  const Fd& process() const { return sockets_.second; }
  std::pair<Fd, Fd> sockets_;
};

TEST(Control, AProcessThatEndsWhileItIsAskedIsLeftOut) {
  const TempFolder folder;
  auto killed = listen_unix(folder / "killed.sock", 0600);
  ASSERT_OK(killed);
  auto ended = listen_unix(folder / "ended.sock", 0600);
  ASSERT_OK(ended);
  auto stuck = listen_unix(folder / "stuck.sock", 0600);
  ASSERT_OK(stuck);
  auto connections = connect_to_all({opened(folder)});
  ASSERT_OK(connections);
  ASSERT_EQ(connections->size(), 3U);
  QuickProcess quick;
  connections->push_back(quick.connection(folder / "quick.sock"));
  [[maybe_unused]] const std::string kept = killed->path.release();
  killed->fd.reset();
  *ended = UnixListener();
  auto answers = ask_all(std::move(*connections), encode_request(Command::kGetEnclaveName), true, milliseconds(100));
  ASSERT_OK(answers);
  EXPECT_EQ(answers->size(), 4U);
  leave_out_ended(*answers, {opened(folder)});
  ASSERT_EQ(answers->size(), 2U);
  EXPECT_EQ(answers->at(0).path, folder / "stuck.sock");
  EXPECT_FALSE(answers->at(0).complete);
  EXPECT_TRUE(answers->at(1).complete) << "it has answered, and ended only then";
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(Control, StuckProcessesCostOneTimeoutTogetherAndTheOthersAreListed) {
  const TempFolder folder;
  std::vector<UnixListener> stuck;
  for (int i = 0; i < 100; ++i) stuck.push_back(*listen_unix(folder / ("stuck" + std::to_string(i) + ".sock"), 0600));
  auto connections = connect_to_all({opened(folder)});
  ASSERT_OK(connections);
  ASSERT_EQ(connections->size(), 100U);
  QuickProcess quick;
  connections->push_back(quick.connection(folder / "quick.sock"));
  const auto start = std::chrono::steady_clock::now();
  auto answers = ask_all(std::move(*connections), encode_request(Command::kGetEnclaveName), true, milliseconds(200));
  ASSERT_OK(answers);
  // One after the other they would cost 20 s.
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(10'000));
  EXPECT_TRUE(answers->back().complete);
  EXPECT_EQ(std::count_if(answers->begin(), answers->end(), [](const Answer& answer) { return answer.complete; }), 1);
}

TEST(Control, AProcessThatTakesNoMoreConnectionsIsCounted) {
  const TempFolder folder;
  const auto full = listen_unix(folder / "full.sock", 0600);
  ASSERT_OK(full);
  ASSERT_EQ(::listen(full->fd.get(), 0), 0);
  const auto waiting = connect_unix(folder / "full.sock");
  ASSERT_OK(waiting);
  auto connections = connect_to_all({opened(folder)});
  ASSERT_OK(connections);
  ASSERT_EQ(connections->size(), 1U);
  // Its answer is known not to come: nobody waits for it.
  const auto answers =
      ask_all(std::move(*connections), encode_request(Command::kGetEnclaveName), true, std::chrono::hours(1));
  ASSERT_OK(answers);
  EXPECT_FALSE(answers->at(0).complete);
  EXPECT_EQ(answers->at(0).path, folder / "full.sock");
}

TEST(Control, ANumberIsWaitedForNoLongerThanItsTime) {
  auto [ours, silent] = make_socket_pair().value();
  const auto number = ask_number({.socket = std::move(ours), .path = ""}, Command::kGetEnclaveCid, milliseconds(20));
  ASSERT_FALSE(number);
  EXPECT_EQ(number.error().code(), ErrorCode::kSocket);
  EXPECT_EQ(number.error().system_errno(), EAGAIN);
}

TEST(Control, TwoEnclavesOfOneNameAreNeitherOfThemMeant) {
  const TempFolder folder;
  const Server one(folder, "1.sock", "a", "i-0-enc1");
  const Server other(folder, "2.sock", "a", "i-0-enc2");
  const auto id = id_of("a", {opened(folder)});
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().code(), ErrorCode::kEnclaveNaming);
  EXPECT_NE(id.error().message().find("more than one enclave has the name \"a\""), std::string::npos)
      << id.error().message();
}

std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

TEST(Control, HostileClientsNeitherStopNorGrowTheServer) {
  const TempFolder folder;
  const Server server(folder, "1.sock", "a", "i-0-enc1");
  constexpr std::size_t kHalfMessage = 60000;
  const std::string garbage[] = {"",
                                 std::string(8, '\xff'),
                                 encode_number(1) + "\xff",
                                 encode_number(0),
                                 encode(Command::kDescribe),
                                 encode(Command::kDescribe) + encode(Command::kTerminate),
                                 encode_number(kHalfMessage + 1) + std::string(kHalfMessage, 'x'),
                                 encode_request(Command::kDescribe) + encode_number(60000),
                                 encode_request(Command::kDescribe) + encode_name("x"),
                                 encode_request(Command::kConnectionListenerStop),
                                 encode_request(Command::kTerminateComplete),
                                 encode_request(Command::kNotPermitted),
                                 encode_request(Command::kRun)};
  ASSERT_OK(enclave_names({opened(folder)}));
  const std::size_t heap_before = nitro::testing::heap_bytes();
  const std::size_t descriptors_before = open_descriptors();
  std::deque<Fd> clients;
  for (int round = 0; round < 60; ++round) {
    for (const std::string& text : garbage) {
      auto client = connect_unix(folder / "1.sock");
      ASSERT_OK(client);
      // Refused already, or asked for the end before it could say all.
      [[maybe_unused]] const auto ignored = write_all(client->get(), as_bytes(text));
      // They stay and never read, so that more connect than are served at once.
      clients.push_back(std::move(*client));
      if (clients.size() > 400) clients.pop_front();
    }
  }
  auto names = enclave_names({opened(folder)});
  ASSERT_OK(names);
  EXPECT_EQ(names->texts, std::vector<std::string>{"a"});
  // Each that is served has a descriptor and one message at most, and the buffer of that has grown by doubling.
  EXPECT_LE(open_descriptors(), descriptors_before + clients.size() + ControlServer::kMaxClients);
  EXPECT_LT(nitro::testing::heap_bytes(), heap_before + ControlServer::kMaxClients * 3 * kMaxRequestBytes);
  clients.clear();
}

TEST(Control, RunIsAnsweredWithAlreadyThere) {
  const TempFolder folder;
  const Server server(folder, "1.sock", "a", "i-0-enc1");
  auto answers = ask_all(*connect_to_all({opened(folder)}), encode_request(Command::kRun), false, kAnswerTimeout);
  ASSERT_OK(answers);
  EXPECT_EQ(answers->at(0).status, EEXIST);
}

/// A control server and its clients on one thread, so that each step can be looked at.
class ControlServerTest : public ::testing::Test {
 protected:
  void start(milliseconds session_limit = ControlServer::kSessionLimit) {
    server_ = ControlServer::start(
                  *loop_, PublishedSocket::publish(opened(folder_), "1.sock", ControlServer::kSocketMode).value(),
                  {.enclave_name = "a",
                   .enclave_id = "i-0-enc1",
                   .describe = [this](bool) { return std::string(description_bytes_, 'd'); },
                   .terminate =
                       [this] {
                         ++ended_;
                         return std::vector<Reply>{StatusReply{0}};
                       },
                   .on_terminated = [this] { ++told_; }},
                  session_limit)
                  .value();
  }
  void turn() {
    for (int i = 0; i < 4; ++i) EXPECT_OK(loop_->run_once(milliseconds(0)));
  }
  Fd client() {
    auto socket = connect_unix(folder_ / "1.sock");
    EXPECT_OK(socket);
    turn();
    return socket ? std::move(*socket) : Fd();
  }
  static bool is_open(const Fd& client) {
    char byte = 0;
    return ::recv(client.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) != 0;
  }
  /// The answer to `request` until the connection ends.
  Answer ask(const Fd& client, const std::string& request, bool confirmed) {
    EXPECT_OK(write_all(client.get(), as_bytes(request)));
    Answer answer;
    AnswerReader reader(answer, confirmed);
    std::array<std::byte, 4096> bytes;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline) {
      EXPECT_OK(loop_->run_once(milliseconds(0)));
      const ssize_t count = ::recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (count > 0 && !reader.take(std::span(bytes).first(static_cast<std::size_t>(count))))
        ADD_FAILURE() << "unreadable";
      if (count == 0) {
        answer.complete = reader.at_end();
        return answer;
      }
    }
    ADD_FAILURE() << "the connection stays open";
    return answer;
  }

  TempFolder folder_;
  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  std::unique_ptr<ControlServer> server_;
  std::size_t description_bytes_ = 2;
  int ended_ = 0;
  int told_ = 0;
};

TEST_F(ControlServerTest, SendsAwayTheOldestForANewcomerWhenAllPlacesAreTaken) {
  start();
  std::deque<Fd> clients;
  for (std::size_t i = 0; i < ControlServer::kMaxClients; ++i) clients.push_back(client());
  EXPECT_EQ(clients.size(), 256U);
  for (const Fd& one : clients) ASSERT_TRUE(is_open(one));
  const Fd newcomer = client();
  EXPECT_TRUE(is_open(newcomer));
  EXPECT_FALSE(is_open(clients.front()));
  clients.pop_front();
  for (const Fd& one : clients) ASSERT_TRUE(is_open(one));
  EXPECT_EQ(ask(newcomer, encode_request(Command::kGetEnclaveName), true).standard_output, "\"a\"\n");
}

TEST_F(ControlServerTest, EndsASessionWhenItsTimeIsOverAndNoOther) {
  start(milliseconds(200));
  const auto arrived = std::chrono::steady_clock::now();
  const Fd early = client();
  EXPECT_OK(write_all(early.get(), as_bytes(encode(Command::kDescribe))));
  while (std::chrono::steady_clock::now() < arrived + milliseconds(100)) EXPECT_OK(loop_->run_once(milliseconds(10)));
  const auto late_arrived = std::chrono::steady_clock::now();
  const Fd late = client();
  while (is_open(early)) {
    ASSERT_OK(loop_->run_once(milliseconds(-1)));
  }
  EXPECT_GE(std::chrono::steady_clock::now(), arrived + milliseconds(200));
  const bool late_is_open = is_open(late);
  if (std::chrono::steady_clock::now() < late_arrived + milliseconds(200)) {
    EXPECT_TRUE(late_is_open);
  }
  while (is_open(late)) {
    ASSERT_OK(loop_->run_once(milliseconds(-1)));
  }
  EXPECT_GE(std::chrono::steady_clock::now(), late_arrived + milliseconds(200));
}

TEST_F(ControlServerTest, ServesAClientThatReadsSlowlyToTheLastByteAndOthersMeanwhile) {
  description_bytes_ = 4 << 20;  // more than a socket holds
  start();
  const Fd slow = client();
  EXPECT_OK(write_all(slow.get(), as_bytes(encode_request(Command::kDescribe, encode_describe_arguments(true)))));
  turn();
  EXPECT_EQ(ask(client(), encode_request(Command::kGetEnclaveName), true).standard_output, "\"a\"\n");
  const Answer answer = ask(slow, "", true);
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.standard_output, std::string(description_bytes_, 'd') + "\n");
}

TEST_F(ControlServerTest, TellsThatTheEnclaveWasEndedOnceTheClientHasBeenTold) {
  start();
  EXPECT_EQ(ask(client(), encode_request(Command::kTerminate), false).status, 0);
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(told_, 1);
}

/// Real and effective user of this process for as long as it lives, and then root's again.
class Users {
 public:
  Users(uid_t real, uid_t effective) { EXPECT_EQ(::setresuid(real, effective, 0), 0); }
  ~Users() { EXPECT_EQ(::setresuid(0, 0, 0), 0); }
  Users(const Users&) = delete;
  Users& operator=(const Users&) = delete;
};

TEST_F(ControlServerTest, LetsTheUserOfTheProcessAndRootEndTheEnclaveAndNobodyElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be another user";
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  start();
  const struct {
    uid_t server, client;
    bool may;
  } cases[] = {{0, 0, true}, {0, 1000, false}, {1000, 1000, true}, {1000, 0, true}, {1000, 1001, false}};
  for (const auto& one : cases) {
    ended_ = 0;
    Fd socket;
    {
      const Users users(0, one.client);
      socket = connect_unix(folder_ / "1.sock").value();
    }
    const Users users(one.server, 0);
    turn();
    const Answer answer = ask(socket, encode_request(Command::kTerminate), false);
    EXPECT_EQ(answer.status, one.may ? 0 : EACCES) << one.client << " asks " << one.server;
    EXPECT_EQ(ended_, one.may ? 1 : 0) << one.client << " asks " << one.server;
  }
}

/// A process whose answer is `bytes`, whatever it is asked; it may close the connection without having read that.
class Talker {
 public:
  enum class Reads { kAll, kNothing };
  Talker(const std::string& path, std::string bytes, Reads reads = Reads::kAll)
      : listener_(listen_unix(path, 0600).value()) {
    EXPECT_OK(set_nonblocking(listener_.fd.get(), false));
    thread_ = std::thread([this, reads, bytes = std::move(bytes)] {
      const Fd client(::accept4(listener_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::array<std::byte, 4096> request;
      [[maybe_unused]] const ssize_t ignored =
          ::recv(client.get(), request.data(), request.size(), reads == Reads::kAll ? 0 : MSG_PEEK);
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

TEST(Control, AnAnswerCountsWhenItsProcessClosesWithTheQuestionUnread) {
  const TempFolder folder;
  const Talker talker(folder / "1.sock", encode_number(kConfirmation) + encode(StatusReply{0}),
                      Talker::Reads::kNothing);
  auto answers = ask_all(*connect_to_all({opened(folder)}), encode_request(Command::kGetEnclaveName), true,
                         std::chrono::minutes(1));
  ASSERT_OK(answers);
  EXPECT_TRUE(answers->at(0).complete);
  EXPECT_EQ(answers->at(0).status, 0);
}

TEST(EnclaveId, SocketsAreNamedAfterTheSlot) {
  EXPECT_EQ(*socket_name("i-0123456789abcdef0-enc1234567890abf08c"), "1234567890abf08c.sock");
  EXPECT_EQ(*socket_name("foo"), "foo.sock");
  for (const char* id : {"", "a/b", "i-0-enc", "i-0-enc../x"}) EXPECT_FALSE(socket_name(id)) << id;
  EXPECT_TRUE(enclave_id(0x1234567890abf08c).ends_with("-enc1234567890abf08c"));
}

}  // namespace
}  // namespace nitro::proc
