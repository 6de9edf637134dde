// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/ending_signals.h"

#include <csignal>

#include "src/base/output_file.h"

namespace nitro {
namespace {

/// Whether `signal` ends a process by default, and can be handled (signal(7)).
bool ends_by_default(int signal) {
  switch (signal) {
    case SIGKILL:
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
    case SIGCONT:
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGSEGV:
      return false;
    default:
      return true;
  }
}

// Only async-signal-safe calls (signal-safety(7)).
void clean_up_and_end(int signal) {
  unlink_unfinished_output();
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  ::sigaction(signal, &by_default, nullptr);
  ::raise(signal);
}

}  // namespace

void remove_output_when_a_signal_ends_us() {
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    if (!ends_by_default(signal)) continue;
    struct sigaction old {};
    if (::sigaction(signal, nullptr, &old) != 0) continue;  // two real-time signals belong to the C library
    if (old.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_handler = clean_up_and_end;
    ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace nitro
