// SPDX-License-Identifier: Apache-2.0
#include "src/cli/run_settings.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <iostream>
#include <limits>

#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/cli/run_config.h"

namespace nitro::cli {
namespace {

template <class Number>
Result<Number> parse_number(std::string_view option, const std::string& text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} {} is not a number in the possible range", option, quote(text)));
  }
  return number;
}

/// Errors: kNoSuchHugepageFlag. Whether this machine has the size shows when pages are taken.
Result<MemorySize> parse_hugepage_size(const std::string& text) {
  const auto size = MemorySize::parse(text);
  for (const std::uint64_t known : {2 * kMiB, kGiB}) {
    if (size && size->bytes() == known) return *size;
  }
  return fail(ErrorCode::kNoSuchHugepageFlag, fmt::format("--hugepage-size {} is neither 2M nor 1G", quote(text)));
}

Result<proc::Backend> chosen_backend(bool local_flag) {
  const auto name = environment_variable("NITRO_CLI_BACKEND").value_or("");
  if (local_flag || name == "local") return proc::Backend::kQemu;
  if (name.empty() || name == "nitro") return proc::Backend::kDevice;
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("NITRO_CLI_BACKEND={} is unknown; use nitro or local", quote(name)));
}

Result<RunSettings> from_options(const RunOptions& options) {
  RunSettings settings;
  proc::RunRequest& request = settings.request;
  if (options.cpu_count) {
    NITRO_TRY(request.cpus, parse_number<std::uint32_t>("--cpu-count", *options.cpu_count));
  }
  request.eif_path = options.eif_path.value_or("");
  if (options.enclave_cid) {
    NITRO_TRY(const auto cid, parse_number<std::uint64_t>("--enclave-cid", *options.enclave_cid));
    NITRO_TRY(request.enclave_cid, check_cid(cid));
  }
  auto memory = MemorySize::parse(options.memory.value_or(""));
  if (!memory) return fail_within("--memory", std::move(memory).error());
  request.memory = *memory;
  if (!options.cpu_ids.empty()) {
    std::vector<std::uint32_t> ids;
    for (const std::string& text : options.cpu_ids) {
      NITRO_TRY(const auto id, parse_number<std::uint32_t>("--cpu-ids", text));
      ids.push_back(id);
    }
    request.cpus = std::move(ids);
  }
  request.debug_mode = options.debug_mode;
  request.enclave_name = options.enclave_name.value_or(name_from_eif(request.eif_path));
  return settings;
}

}  // namespace

Result<std::optional<std::uint64_t>> check_cid(std::uint64_t cid) {
  if (cid == 0) {
    std::cerr << "The enclave CID will be chosen automatically, as the given CID is 0.\n";
    return std::optional<std::uint64_t>();
  }
  if (cid <= proc::kParentCid || cid == std::numeric_limits<std::uint32_t>::max()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("--enclave-cid {} is reserved; choose one from 4 on", cid));
  }
  if (cid > std::numeric_limits<std::uint32_t>::max()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--enclave-cid {} does not fit into the 32 bits of a vsock address", cid));
  }
  return std::optional(cid);
}

std::string name_from_eif(const std::string& eif_path) {
  std::string name = std::filesystem::path(eif_path).filename().string();
  while (name.size() > 4 && name.ends_with(".eif")) name.resize(name.size() - 4);
  // A path without a last component cannot be an image, as the enclave process will report; until then it needs a name.
  if (name.empty()) name = "enclave";
  return name;
}

Result<RunSettings> read_settings(const RunOptions& options) {
  NITRO_TRY(auto settings, options.config ? read_config_file(*options.config) : from_options(options));
  // The only option allowed beside --config: it says what to do with the enclave, not what the enclave is.
  settings.attach_console = settings.attach_console || options.attach_console;
  proc::RunRequest& request = settings.request;
  request.debug_mode = request.debug_mode || settings.attach_console;
  NITRO_TRY(request.backend, chosen_backend(options.local));
  if (options.hugepage_size) {
    NITRO_TRY(request.hugepage_size, parse_hugepage_size(*options.hugepage_size));
  }
  return settings;
}

}  // namespace nitro::cli
