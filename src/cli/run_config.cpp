// SPDX-License-Identifier: Apache-2.0
#include "src/cli/run_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/json.h"

namespace nitro::cli {
namespace {

/// Returns a member of the configuration file, or nullopt if it is absent or null. Errors: kSerde.
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
  if (!fits) return fail(ErrorCode::kSerde, fmt::format("the value of \"{}\" has the wrong type", key));
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

}  // namespace

Result<RunSettings> parse_config(std::string_view text) {
  NITRO_TRY(const auto config, parse_json(text, ErrorCode::kSerde));
  if (!config.is_object()) return fail(ErrorCode::kSerde, "it is not a JSON object");
  return read_config(config);
}

Result<RunSettings> read_config_file(const std::string& path) {
  NITRO_TRY(const std::string text, read_text_file(path));
  auto settings = parse_config(text);
  if (!settings) return fail_within(fmt::format("reading {}", quote(path)), std::move(settings).error());
  return settings;
}

}  // namespace nitro::cli
