// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/unix_socket.h"

#include <sys/stat.h>
#include <unistd.h>

#include "src/base/bytes.h"
#include "temp_folder.h"

namespace nitro {
namespace {

using testing::TempFolder;

TEST(UnixSocket, ConnectsAndKnowsWhoIsThere) {
  const TempFolder folder;
  auto listener = listen_unix(folder / "s", 0766);
  ASSERT_OK(listener);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "s").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0766U);
  auto nobody = accept_unix(listener->fd.get());
  ASSERT_OK(nobody);
  EXPECT_FALSE(nobody->valid());
  auto client = connect_unix(folder / "s");
  ASSERT_OK(client);
  auto server = accept_unix(listener->fd.get());
  ASSERT_OK(server);
  ASSERT_TRUE(server->valid());
  auto peer = peer_credentials(server->get());
  ASSERT_OK(peer);
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::getuid());
}

TEST(UnixSocket, ItsNameGoesWithTheListener) {
  const TempFolder folder;
  { ASSERT_OK(listen_unix(folder / "s", 0600)); }
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(UnixSocket, RefusesNamesThatAreTakenOrTooLong) {
  const TempFolder folder;
  auto first = listen_unix(folder / "s", 0600);
  ASSERT_OK(first);
  const auto second = listen_unix(folder / "s", 0600);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().system_errno(), EADDRINUSE);
  const auto too_long = listen_unix(folder / std::string(200, 'x'), 0600);
  ASSERT_FALSE(too_long);
  EXPECT_NE(too_long.error().message().find("1 to 107"), std::string::npos) << too_long.error().message();
}

TEST(UnixSocket, ReadsEndAtTheTimeLimit) {
  auto pair = make_socket_pair();
  ASSERT_OK(pair);
  ASSERT_OK(set_timeouts(pair->first.get(), std::chrono::milliseconds(20)));
  std::byte x{};
  const auto result = read_exact(pair->first.get(), std::span(&x, 1));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().system_errno(), EAGAIN);
}

TEST(UnixSocket, WritingToSomeoneWhoLeftIsAnErrorAndNotASignal) {
  auto pair = make_socket_pair();
  ASSERT_OK(pair);
  pair->second.reset();
  const auto result = write_all(pair->first.get(), as_bytes("x"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().system_errno(), EPIPE);
}

}  // namespace
}  // namespace nitro
