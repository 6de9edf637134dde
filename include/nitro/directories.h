// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nitro/result.h"

namespace nitro {

/// Where files of this tool live, from the environment of the process. Nothing is created unless a comment says so.
///
/// Sockets: NITRO_CLI_SOCKETS_PATH alone when set; else /run/nitro_enclaves, and for users who may not write there
/// $XDG_RUNTIME_DIR/nitro_enclaves (without XDG_RUNTIME_DIR: /tmp/nitro_enclaves-UID).
inline constexpr const char* kSystemSocketsFolder = "/run/nitro_enclaves";

/// The folder in which a new enclave's socket is made; created (0775 for the system folder, 0700 for a user's) when
/// missing. A user's folder that another user owns is refused. Errors: kFileOperation.
Result<std::string> sockets_folder_for_new_enclave();
/// Every folder that may hold sockets of enclaves, those that exist only, in the order of search.
std::vector<std::string> sockets_folders();
/// NITRO_CLI_LOGS_PATH; else /var/log/nitro_enclaves when writable (created by root); else
/// $XDG_STATE_HOME/nitro_enclaves
/// (~/.local/state/nitro_enclaves), created. Errors: kFileOperation.
Result<std::string> logs_folder();
/// NITRO_CLI_BLOBS; else /usr/share/nitro_enclaves/blobs.
std::string blobs_folder();

}  // namespace nitro
