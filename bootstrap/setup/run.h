// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nitro::setup {

/// The program nitro-cli-config. Returns its exit status.
int run(int argc, char** argv);

}  // namespace nitro::setup
