// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "enclave_proc/machine/machine.h"
#include "nitro/result.h"

namespace nitro::cli {

/// The options of run-enclave's command line. An option that was not given is nullopt; one that was given empty is an
/// empty string.
struct RunOptions {
  std::optional<std::string> eif_path;
  std::optional<std::string> memory;
  std::optional<std::string> cpu_count;
  std::vector<std::string> cpu_ids;  ///< the option takes at least one word, so an empty list means not given
  std::optional<std::string> enclave_cid;
  std::optional<std::string> enclave_name;
  std::optional<std::string> config;
  std::optional<std::string> hugepage_size;
  bool debug_mode = false;
  bool attach_console = false;
  bool local = false;
};

/// What run-enclave has to do.
struct RunSettings {
  proc::RunRequest request;
  bool attach_console = false;
};

/// Returns the settings given by the options, or by the file that --config names. Whether the machine can satisfy them
/// shows later. Errors: kInvalidArgument and kNoSuchHugepageFlag name the option; kFileOperation and kSerde the file;
/// kMissingArgument and kConflictingArgument for a file that specifies no CPUs, or both cpu_count and cpu_ids.
Result<RunSettings> read_settings(const RunOptions& options);

/// Checks the CID that a user asks for. Returns nullopt for 0, which lets the machine choose. Errors: kInvalidArgument
/// for reserved CIDs, which are those of vsock(7) and 3, the parent of every enclave, and for values that do not fit
/// into an address.
Result<std::optional<std::uint64_t>> check_cid(std::uint64_t cid);
/// Returns the default name of an enclave: that of its image's file.
[[nodiscard]] std::string name_from_eif(const std::string& eif_path);

}  // namespace nitro::cli
