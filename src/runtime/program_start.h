// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nitro/result.h"

/// What a program, or a process that was forked to become one, has to put right of what it inherited.
namespace nitro {

/// Blocks no signal, and gives those that we or a parent may have set aside their default action: SIGCHLD, which would
/// otherwise let the kernel reap children before they are waited for, SIGPIPE and SIGXFSZ. Ignored signals of a
/// terminal (nohup(1)) stay ignored. Async-signal-safe.
void reset_inherited_signals();

/// For the start of main(): reset_inherited_signals(), open_standard_descriptors(), and SIGPIPE and SIGXFSZ are
/// ignored: a reader of our output that goes away, and a limit on the size of files, are errors of the write, which are
/// reported or ignored where they happen. Errors: kFileOperation.
Result<void> prepare_program();

/// Raises the soft limit of open files to the hard one. The usual soft limit of 1024 is meant for select(2), and a
/// shell may have set a lower one. Children inherit it.
void raise_descriptor_limit();

}  // namespace nitro
