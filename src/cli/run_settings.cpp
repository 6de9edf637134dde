// SPDX-License-Identifier: Apache-2.0
#include "src/cli/run_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <limits>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/json.h"

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

/// 0 lets the machine choose; the reserved addresses are those of vsock(7), and 3 is the parent of every enclave.
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

/// Errors: kNoSuchHugepageFlag. Which sizes this machine has is seen when pages are taken.
Result<MemorySize> parse_hugepage_size(const std::string& text) {
  const auto size = MemorySize::parse(text);
  for (const std::uint64_t known : {2 * kMiB, kGiB}) {
    if (size && size->bytes() == known) return *size;
  }
  return fail(ErrorCode::kNoSuchHugepageFlag, fmt::format("--hugepage-size {} is neither 2M nor 1G", quote(text)));
}

std::string name_from_eif(const std::string& eif_path) {
  std::string name = std::filesystem::path(eif_path).filename().string();
  while (name.size() > 4 && name.ends_with(".eif")) name.resize(name.size() - 4);
  // A path that ends in no name is that of no image, which the enclave process says; until then it has some name.
  if (name.empty()) name = "enclave";
  return name;
}

Result<proc::Backend> chosen_backend(bool local_flag) {
  const auto name = environment_variable("NITRO_CLI_BACKEND").value_or("");
  if (local_flag || name == "local") return proc::Backend::kQemu;
  if (name.empty() || name == "nitro") return proc::Backend::kDevice;
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("NITRO_CLI_BACKEND={} is not known; known are nitro and local", quote(name)));
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

/// A member of the configuration file; absent and null are the same. Errors: kSerde.
template <class Value>
Result<std::optional<Value>> member(const nlohmann::ordered_json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::optional<Value>();
  const bool fits = [&] {
    if constexpr (std::is_same_v<Value, std::string>) return found->is_string();
    if constexpr (std::is_same_v<Value, bool>) return found->is_boolean();
    if constexpr (std::is_same_v<Value, std::vector<std::uint32_t>>) {
      return found->is_array() && std::all_of(found->begin(), found->end(), [](const auto& item) {
               return item.is_number_unsigned() &&
                      item.template get<std::uint64_t>() <= std::numeric_limits<std::uint32_t>::max();
             });
    }
    if constexpr (std::is_integral_v<Value>) {
      return found->is_number_unsigned() && found->template get<std::uint64_t>() <= std::numeric_limits<Value>::max();
    }
    return false;
  }();
  if (!fits) return fail(ErrorCode::kSerde, fmt::format("the value of \"{}\" is not of the kind it has to be", key));
  return std::optional(found->template get<Value>());
}

template <class Value>
Result<Value> needed_member(const nlohmann::ordered_json& config, const char* key) {
  NITRO_TRY(auto value, member<Value>(config, key));
  if (!value) return fail(ErrorCode::kSerde, fmt::format("\"{}\" is missing", key));
  return std::move(*value);
}

Result<RunSettings> read_config(const nlohmann::ordered_json& config) {
  RunSettings settings;
  proc::RunRequest& request = settings.request;
  NITRO_TRY(request.eif_path, needed_member<std::string>(config, "eif_path"));
  NITRO_TRY(const auto memory_mib, needed_member<std::uint64_t>(config, "memory_mib"));
  if (memory_mib > std::numeric_limits<std::uint64_t>::max() / kMiB) {
    return fail(ErrorCode::kSerde, "the value of \"memory_mib\" is more than 64 bits can address");
  }
  request.memory = MemorySize::from_mib(memory_mib);
  NITRO_TRY(const auto cid, member<std::uint64_t>(config, "enclave_cid"));
  if (cid) {
    NITRO_TRY(request.enclave_cid, check_cid(*cid));
  }
  NITRO_TRY(const auto cpu_ids, member<std::vector<std::uint32_t>>(config, "cpu_ids"));
  NITRO_TRY(const auto cpu_count, member<std::uint32_t>(config, "cpu_count"));
  if (!cpu_ids && !cpu_count)
    return fail(ErrorCode::kMissingArgument, "neither \"cpu_count\" nor \"cpu_ids\" is given");
  if (cpu_ids && cpu_count)
    return fail(ErrorCode::kConflictingArgument, "both \"cpu_count\" and \"cpu_ids\" are given");
  if (cpu_ids) request.cpus = *cpu_ids;
  if (cpu_count) request.cpus = *cpu_count;
  NITRO_TRY(const auto debug_mode, member<bool>(config, "debug_mode"));
  NITRO_TRY(const auto attach_console, member<bool>(config, "attach_console"));
  settings.attach_console = attach_console.value_or(false);
  request.debug_mode = debug_mode.value_or(false);
  NITRO_TRY(const auto name, member<std::string>(config, "enclave_name"));
  request.enclave_name = name.value_or(name_from_eif(request.eif_path));
  return settings;
}

Result<RunSettings> from_config(const std::string& path) {
  NITRO_TRY(const std::string text, read_text_file(path));
  auto settings = parse_config(text);
  if (!settings) return fail_within(fmt::format("reading {}", quote(path)), std::move(settings).error());
  return settings;
}

}  // namespace

Result<RunSettings> parse_config(std::string_view text) {
  NITRO_TRY(const auto config, parse_json(text, ErrorCode::kSerde));
  if (!config.is_object()) return fail(ErrorCode::kSerde, "it is not a JSON object");
  return read_config(config);
}

Result<RunSettings> read_settings(const RunOptions& options) {
  NITRO_TRY(auto settings, options.config ? from_config(*options.config) : from_options(options));
  // The one option beside --config that says what to do with the enclave, not what it is.
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
