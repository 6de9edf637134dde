// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nitro::proxy {

/// The body of main(). Returns the exit status: 0 after SIGTERM, SIGINT or the end of the local enclave; 1 when
/// something failed, with `Error: …` on stderr; 2 for a command line of the wrong form.
int run(int argc, char** argv);

}  // namespace nitro::proxy
