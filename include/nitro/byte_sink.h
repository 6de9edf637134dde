// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "nitro/result.h"

namespace nitro {

/// Takes the next bytes of a stream, borrowed for the call only. A failure ends the stream: the producer stops and
/// returns the failure.
using ByteSink = std::function<Result<void>(std::span<const std::byte> bytes)>;

}  // namespace nitro
