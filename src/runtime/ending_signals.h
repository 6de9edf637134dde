// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nitro {

/// From now on every signal that would end this process, and that nobody has chosen to ignore or to handle, first takes
/// the unfinished output file away (unlink_unfinished_output()) and then ends the process as before. Not SIGKILL, which
/// nobody can handle, and not the faults of the process's own code (SIGSEGV, for example), after which it cannot be
/// relied on. For the start of a program that writes files; programs that it executes start without this.
void remove_output_when_a_signal_ends_us();

}  // namespace nitro
