// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/program_start.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "src/runtime/child.h"
#include "temp_folder.h"

namespace nitro {
namespace {

/// Runs `check` in a process of its own, as signals are the whole process's.
template <class Check>
bool holds_in_a_process(Check check) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(check() ? 0 : 1);
  int status = 1;
  ::waitpid(child, &status, 0);
  return status == 0;
}

TEST(ProgramStart, AnInheritedIgnoredSigchldBreaksNoChild) {
  EXPECT_TRUE(holds_in_a_process([] {
    std::signal(SIGCHLD, SIG_IGN);
    if (!prepare_program()) return false;
    ChildOptions options;
    options.arguments = {"sh", "-c", "exit 3"};
    auto child = Child::spawn(options);
    if (!child) return false;
    const auto status = child->wait();
    return status && status->code == 3;
  }));
}

TEST(ProgramStart, AnInheritedMaskIsForgottenAndChildrenGetTheDefaults) {
  EXPECT_TRUE(holds_in_a_process([] {
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    if (!prepare_program()) return false;
    sigset_t now;
    ::sigprocmask(SIG_SETMASK, nullptr, &now);
    ChildOptions options;
    options.arguments = {"sh", "-c", "grep -q '^SigBlk:.0*$' /proc/self/status && kill -PIPE $$"};
    auto child = Child::spawn(options);
    if (!child) return false;
    const auto status = child->wait();
    return ::sigisemptyset(&now) == 1 && status && status->signal == SIGPIPE;
  }));
}

}  // namespace
}  // namespace nitro
