// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "temp_folder.h"

namespace nitro {
namespace {

std::string output_of(ChildOptions options) {
  auto pipe = make_pipe();
  if (!pipe) throw std::runtime_error(pipe.error().message());
  options.stdout_fd = pipe->second.get();
  auto child = Child::spawn(options);
  if (!child) throw std::runtime_error(child.error().message());
  pipe->second.reset();
  std::string text(4096, '\0');
  const auto size = read_full(pipe->first.get(), std::as_writable_bytes(std::span(text)));
  text.resize(size ? *size : 0);
  auto status = child->wait();
  EXPECT_TRUE(status && status->success());
  return text;
}

TEST(Child, RunsAProgramAndTellsHowItEnded) {
  auto child = Child::spawn({.arguments = {"sh", "-c", "exit 7"}, .inherited_fds = {}});
  ASSERT_OK(child);
  auto status = child->wait();
  ASSERT_OK(status);
  EXPECT_EQ(status->code, 7);
  EXPECT_EQ(status->to_string(), "exited with status 7");
  EXPECT_FALSE(child->running());
}

TEST(Child, AProgramThatIsNotThereIsAnErrorAndNotADeadChild) {
  auto child = Child::spawn({.arguments = {"/does/not/exist"}, .inherited_fds = {}});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code(), ErrorCode::kProcessSpawn);
  EXPECT_EQ(child.error().system_errno(), ENOENT);
  EXPECT_EQ(child.error().message(), "executing \"/does/not/exist\": No such file or directory");
}

TEST(Child, InheritsNothingButWhatItIsGiven) {
  const Fd secret(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd given(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  const std::string text = output_of(
      {.arguments = {"sh", "-c", "for f in /proc/$$/fd/*; do readlink $f; done"}, .inherited_fds = {given.get()}});
  EXPECT_NE(text.find("/dev/zero"), std::string::npos) << text;
  EXPECT_EQ(text.find("socket"), std::string::npos) << text;
}

TEST(Child, HasItsOwnValuesInPlaceOfOurs) {
  const testing::ScopedEnvironment ours("NITRO_TEST_CHILD", "ours");
  const testing::ScopedEnvironment longer("NITRO_TEST_CHILD_NAME", "kept");
  EXPECT_EQ(output_of({.arguments = {"sh", "-c", "echo $NITRO_TEST_CHILD $NITRO_TEST_CHILD_NAME"},
                       .inherited_fds = {},
                       .environment = {"NITRO_TEST_CHILD=its own"}}),
            "its own kept\n");
}

TEST(Child, IsKilledAndReapedWhenItsOwnerGoes) {
  pid_t pid = 0;
  {
    auto child = Child::spawn({.arguments = {"sleep", "1000"}, .inherited_fds = {}});
    ASSERT_OK(child);
    pid = child->pid();
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(Child, ItsDescriptorBecomesReadableAtItsEnd) {
  auto child = Child::spawn({.arguments = {"sleep", "1000"}, .inherited_fds = {}});
  ASSERT_OK(child);
  pollfd waiting{.fd = child->pidfd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&waiting, 1, 0), 0);
  ASSERT_OK(child->send_signal(SIGTERM));
  EXPECT_EQ(::poll(&waiting, 1, 10000), 1);
  auto status = child->poll();
  ASSERT_OK(status);
  ASSERT_TRUE(status->has_value());
  EXPECT_EQ((*status)->signal, SIGTERM);
}

TEST(Child, DiesWithItsParentWhenAskedTo) {
  // A middle process starts the child and is killed without a chance to clean up.
  auto pipe = make_pipe();
  ASSERT_OK(pipe);
  const pid_t middle = ::fork();
  if (middle == 0) {
    auto child = Child::spawn({.arguments = {"sleep", "1000"}, .inherited_fds = {}, .parent_death_signal = SIGKILL});
    const pid_t pid = child ? child->pid() : 0;
    auto ignored = write_all(pipe->second.get(), std::as_bytes(std::span(&pid, 1)));
    ::pause();
    ::_exit(0);
  }
  pid_t pid = 0;
  ASSERT_OK(read_exact(pipe->first.get(), std::as_writable_bytes(std::span(&pid, 1))));
  ASSERT_GT(pid, 0);
  // Becomes readable when the child has ended, whenever the process that adopts it reaps it (pidfd_open(2)).
  const Fd child(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  ASSERT_TRUE(child.valid());
  ::kill(middle, SIGKILL);
  ::waitpid(middle, nullptr, 0);
  pollfd ended{.fd = child.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ended, 1, 10'000), 1);
}

}  // namespace
}  // namespace nitro
