// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nitro/result.h"

/// Cleans up the state that a program, or a process forked to become one, inherits.
namespace nitro {

/// Unblocks all signals, and restores the default action of those that we or a parent may have changed: SIGCHLD, as
/// ignoring it makes the kernel reap children before they are waited for, SIGPIPE and SIGXFSZ. Ignored terminal signals
/// (nohup(1)) stay ignored. Async-signal-safe.
void reset_inherited_signals();

/// Call this at the start of main(): runs reset_inherited_signals() and open_standard_descriptors(), and ignores
/// SIGPIPE and SIGXFSZ: a vanished reader of our output and an exceeded file size limit become errors of the write,
/// which are reported or ignored where they occur. Errors: kFileOperation.
Result<void> prepare_program();

/// Raises the soft limit of open files to the hard limit. The usual soft limit of 1024 is meant for select(2), and a
/// shell may have set a lower one. Children inherit it.
void raise_descriptor_limit();

}  // namespace nitro
