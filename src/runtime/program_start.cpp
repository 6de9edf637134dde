// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/program_start.h"

#include <sys/resource.h>

#include <csignal>

#include "nitro/fd.h"

namespace nitro {

void reset_inherited_signals() {
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  for (const int signal : {SIGCHLD, SIGPIPE, SIGXFSZ}) ::sigaction(signal, &by_default, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

Result<void> prepare_program() {
  reset_inherited_signals();
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
  return open_standard_descriptors();
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace nitro
