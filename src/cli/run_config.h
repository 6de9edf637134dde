// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "nitro/result.h"
#include "src/cli/run_settings.h"

/// The configuration file of `run-enclave --config`: a JSON object with eif_path, memory_mib, cpu_count or cpu_ids, and
/// optionally enclave_cid, enclave_name, debug_mode and attach_console.
namespace nitro::cli {

/// Reads the settings from the file `path`. Errors: kFileOperation; those of parse_config(), with the file's name.
Result<RunSettings> read_config_file(const std::string& path);

/// Parses the text of such a file. Errors: kSerde; kMissingArgument and kConflictingArgument when it specifies no CPUs,
/// or both cpu_count and cpu_ids; kInvalidArgument for a CID that no enclave can have.
Result<RunSettings> parse_config(std::string_view text);

}  // namespace nitro::cli
