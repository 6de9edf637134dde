// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "nitro/fd.h"

namespace nitro::proc {

/// Takes something that only one enclave of this machine may have: a name, a CID of a local enclave. It is taken until
/// the last process that holds the descriptor closes it or ends, however it ends; no file is involved. `kind` and
/// `value` together name the thing. An invalid Fd: somebody else has it. Errors: kSocket.
Result<Fd> claim(std::string_view kind, std::string_view value);

}  // namespace nitro::proc
