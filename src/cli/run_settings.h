// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "enclave_proc/machine/machine.h"
#include "nitro/result.h"

namespace nitro::cli {

/// The words of run-enclave's command line. What was not given has no value; what was given empty is an empty text.
struct RunOptions {
  std::optional<std::string> eif_path;
  std::optional<std::string> memory;
  std::optional<std::string> cpu_count;
  std::vector<std::string> cpu_ids;  ///< the option takes one word at least, so none means not given
  std::optional<std::string> enclave_cid;
  std::optional<std::string> enclave_name;
  std::optional<std::string> config;
  std::optional<std::string> hugepage_size;
  bool debug_mode = false;
  bool attach_console = false;
  bool local = false;
};

/// What run-enclave is to do.
struct RunSettings {
  proc::RunRequest request;
  bool attach_console = false;
};

/// The settings that the options stand for, or the file that --config names. Whether the machine can fulfil them is
/// seen later. Errors: kInvalidArgument and kNoSuchHugepageFlag name the option; kFileOperation and kSerde the file;
/// kMissingArgument and kConflictingArgument for a file that names no CPUs, or names them twice.
Result<RunSettings> read_settings(const RunOptions& options);

/// The CID that a user asks for; nothing for 0, which lets the machine choose. Errors: kInvalidArgument for the
/// reserved ones, those of vsock(7) and 3, the parent of every enclave, and for what does not fit into an address.
Result<std::optional<std::uint64_t>> check_cid(std::uint64_t cid);
/// The name of an enclave that was given none: that of its image's file.
[[nodiscard]] std::string name_from_eif(const std::string& eif_path);

}  // namespace nitro::cli
