// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nitro/result.h"

namespace nitro {

/// Where files of this tool live, from the environment of the process; the sockets have a registry of their own
/// (enclave_proc/registry). Nothing is created unless a comment says so.

/// Whether `path` is a folder, or a link to one.
[[nodiscard]] bool is_folder(const std::string& path);

/// Makes the last component of `path` when there is nothing; its mode is not subject to the umask. Errors:
/// kFileOperation, kFilePermissions.
Result<void> make_folder(const std::string& path, unsigned mode);
/// The same for a folder of the whole machine, which belongs to root and the group `ne`, whose members may run
/// enclaves. Packages make such folders with their group; where there is none, the folder is root's alone. To be called
/// as root.
Result<void> make_system_folder(const std::string& path, unsigned mode);

/// NITRO_CLI_LOGS_PATH; else /var/log/nitro_enclaves when writable (created by root); else
/// $XDG_STATE_HOME/nitro_enclaves
/// (~/.local/state/nitro_enclaves), created. Errors: kFileOperation.
Result<std::string> logs_folder();
/// NITRO_CLI_BLOBS; else /usr/share/nitro_enclaves/blobs.
std::string blobs_folder();

}  // namespace nitro
