// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nitro/result.h"

namespace nitro {

/// Locations of this tool's files, from the environment of the process, except for the sockets (see
/// enclave_proc/registry). Nothing is created unless a comment says so.

/// Whether `path` is a folder, or a link to one.
[[nodiscard]] bool is_folder(const std::string& path);

/// Creates the last component of `path` if it does not exist; `mode` is not subject to the umask. Errors:
/// kFileOperation, kFilePermissions.
Result<void> make_folder(const std::string& path, unsigned mode);
/// The same for a system-wide folder, which belongs to root and to the group `ne`, whose members may run enclaves.
/// Packages create the group; if it does not exist, the folder belongs to root alone. Call it as root.
Result<void> make_system_folder(const std::string& path, unsigned mode);

/// Returns NITRO_CLI_LOGS_PATH; else /var/log/nitro_enclaves if writable (root creates it); else
/// $XDG_STATE_HOME/nitro_enclaves (~/.local/state/nitro_enclaves), which is created. Errors: kFileOperation.
Result<std::string> logs_folder();
/// Returns NITRO_CLI_BLOBS; else /usr/share/nitro_enclaves/blobs.
std::string blobs_folder();

}  // namespace nitro
