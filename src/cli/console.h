// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

namespace nitro::cli {

/// Connects to the console of an enclave. Errors: kSocket when no enclave has this ID or there is no vsock,
/// kSocketConnectTimeout, kConsoleConnection when the enclave is not in debug mode or its console cannot be reached.
Result<Fd> connect_to_console(const std::string& enclave_id, const std::vector<proc::SocketsFolder>& folders);

/// Copies a console to stdout until the enclave ends or `limit` has passed. Errors: kConsoleRead, kConsoleWriteOutput.
Result<void> show_console(const Fd& console, std::optional<std::chrono::seconds> limit);

}  // namespace nitro::cli
