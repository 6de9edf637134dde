// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nitro {

/// From now on every signal that would end this process, and is not already ignored or handled, first removes the
/// unfinished output file (unlink_unfinished_output()) and then ends the process as before. Excluded are SIGKILL, which
/// cannot be handled, and faults of the process's own code (such as SIGSEGV), after which it cannot be trusted. Call it
/// at the start of a program that writes files; programs that it executes do not inherit this.
void remove_output_when_a_signal_ends_us();

}  // namespace nitro
