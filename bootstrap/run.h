// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nitro::allocator {

/// The program nitro-enclaves-allocator. Returns its exit status.
int run(int argc, char** argv);

}  // namespace nitro::allocator
