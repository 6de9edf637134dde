// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "nitro/result.h"

namespace nitro::cli {

/// Copies the console of an enclave to stdout until the enclave ends, or `limit` has passed. Errors: kSocket when no
/// enclave has this ID or there is no vsock, kSocketConnectTimeout, kConsoleConnection when it is not in debug mode or
/// its console cannot be reached, kConsoleRead, kConsoleWriteOutput.
Result<void> show_console(const std::string& enclave_id, std::optional<std::chrono::seconds> limit);

}  // namespace nitro::cli
