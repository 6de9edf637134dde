// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string_view>

#include "src/base/bytes.h"
#include "src/base/cpu_list.h"
#include "src/base/memory_size.h"
#include "src/base/numa_node.h"
#include "src/base/number.h"
#include "src/yaml/yaml.h"

namespace nitro::allocator {
namespace {

constexpr std::uint64_t kMostPages = std::uint64_t{1} << 25;

/// The keys of a file: first those of a pool, then those of the file alone.
constexpr std::array<std::string_view, 7> kKeys = {"memory_mib", "pages", "cpu_count", "cpu_pool",
                                                   "numa_node",  "pools", "required"};
constexpr std::span<const std::string_view> kPoolKeys = std::span(kKeys).first<5>();

Failure wrong_form(const YamlValue& value, std::string_view form) {
  if (!value.is_scalar()) return value.fault(form);
  return value.fault(fmt::format("{}, not {}", form, quote(value.text().value())));
}

/// The AWS tool takes a number in quotes too.
Result<std::uint64_t> number(const YamlValue& value, std::uint64_t max, std::string_view form) {
  const auto text = value.is_scalar() ? value.text() : Result<std::string>("");
  const auto parsed = parse_number<std::uint64_t>(text.value());
  if (!parsed || *parsed == 0 || *parsed > max) return wrong_form(value, form);
  return *parsed;
}

Result<std::vector<std::uint32_t>> cpus(const YamlValue& value) {
  constexpr std::string_view kForm = "must be a list of CPUs like 2,3,6-9, each once and without CPU 0";
  auto ids = value.is_scalar() ? parse_cpu_list(value.text().value())
                               : Result<std::vector<std::uint32_t>>(std::vector<std::uint32_t>{});
  if (!ids || ids->empty()) return wrong_form(value, kForm);
  auto sorted = *ids;
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front() == 0 || std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    return wrong_form(value, kForm);
  return ids;
}

Result<std::vector<Pages>> pages(const YamlValue& value) {
  std::vector<Pages> result;
  auto read = value.for_each_entry([&result](const std::string& size, const YamlValue& count) -> Result<void> {
    const bool has_unit = !size.empty() && (size.back() < '0' || size.back() > '9');
    const auto parsed = MemorySize::parse(size);
    if (!has_unit || !parsed || parsed->bytes() == 0)
      return count.fault("the key must be the size of a huge page, like 2M or 1G");
    Pages& entry = result.emplace_back();
    entry.size_bytes = parsed->bytes();
    NITRO_TRY(entry.count, number(count, kMostPages, "must be a number of pages, 1 or more"));
    return {};
  });
  if (!read) return Failure(std::move(read).error());
  if (result.empty()) return value.fault("must name a size and a number of pages: {2M: 100, 1G: 1}");
  return result;
}

/// Reads the value of a key of a pool.
Result<void> read_pool_key(const std::string& key, const YamlValue& value, PoolRequest& pool) {
  if (key == "memory_mib") {
    NITRO_TRY(const std::uint64_t mib, number(value, kMostMemoryMib, "must be an amount of memory in MiB, 1 or more"));
    pool.memory_bytes = mib * kMiB;
  } else if (key == "pages") {
    NITRO_TRY(pool.pages, pages(value));
  } else if (key == "cpu_count") {
    NITRO_TRY(const std::uint64_t count, number(value, kMostCpus, "must be a number of CPUs, 1 or more"));
    pool.cpu_count = static_cast<std::uint32_t>(count);
  } else if (key == "cpu_pool") {
    NITRO_TRY(pool.cpus, cpus(value));
  } else {
    NITRO_TRY(const std::uint64_t node, value.number(0, kMostNumaNodes - 1));
    pool.numa_node = static_cast<unsigned>(node);
  }
  return {};
}

/// `place` is the mapping whose keys these are.
Result<void> check_pool(const PoolRequest& pool, const YamlValue& place) {
  const bool has_memory = pool.memory_bytes > 0;
  if (has_memory && !pool.pages.empty()) return place.fault("memory_mib and pages exclude each other");
  if (!has_memory && pool.pages.empty()) return place.fault("the memory is missing: memory_mib, or pages");
  if (pool.cpu_count > 0 && !pool.cpus.empty()) return place.fault("cpu_count and cpu_pool exclude each other");
  if (pool.cpu_count == 0 && pool.cpus.empty()) return place.fault("the CPUs are missing: cpu_count, or cpu_pool");
  return {};
}

Result<PoolRequest> read_pool(const YamlValue& item) {
  PoolRequest pool;
  NITRO_CHECK(item.for_each_entry(
      kPoolKeys, [&pool](const std::string& key, const YamlValue& value) { return read_pool_key(key, value, pool); }));
  NITRO_CHECK(check_pool(pool, item));
  return pool;
}

Result<bool> yes_or_no(const YamlValue& value) {
  const std::string text = value.is_scalar() ? value.text().value() : "";
  if (text == "true") return true;
  if (text == "false") return false;
  return wrong_form(value, "must be true or false");
}

Result<std::vector<PoolRequest>> read_pools(const YamlValue& list) {
  std::vector<PoolRequest> pools;
  std::set<std::uint32_t> taken;
  auto read = list.for_each_item([&](const YamlValue& item) -> Result<void> {
    NITRO_TRY(PoolRequest pool, read_pool(item));
    for (const std::uint32_t id : pool.cpus) {
      if (!taken.insert(id).second) return item.fault(fmt::format("CPU {} is in another pool too", id));
    }
    pools.push_back(std::move(pool));
    return {};
  });
  if (!read) return Failure(std::move(read).error());
  if (pools.empty()) return list.fault("the list has no pool");
  return pools;
}

Result<AllocatorConfig> config_of(const YamlValue& file) {
  AllocatorConfig config;
  PoolRequest only;
  bool has_own_keys = false;
  const auto read = [&](const std::string& key, const YamlValue& value) -> Result<void> {
    if (key == "required") {
      NITRO_TRY(config.required, yes_or_no(value));
      return {};
    }
    if (key == "pools") {
      NITRO_TRY(config.pools, read_pools(value));
      return {};
    }
    has_own_keys = true;
    return read_pool_key(key, value, only);
  };
  NITRO_CHECK(file.for_each_entry(kKeys, read));
  if (has_own_keys && !config.pools.empty())
    return file.fault(fmt::format("pools excludes these keys beside it: {}", fmt::join(kPoolKeys, ", ")));
  if (!config.pools.empty()) return config;
  NITRO_CHECK(check_pool(only, file));
  config.pools.push_back(std::move(only));
  return config;
}

}  // namespace

bool AllocatorConfig::wants_memory() const {
  return std::any_of(pools.begin(), pools.end(),
                     [](const PoolRequest& pool) { return pool.memory_bytes > 0 || !pool.pages.empty(); });
}

Result<AllocatorConfig> parse_allocator_config(const std::string& text, const std::string& name) {
  NITRO_TRY(const YamlValue file, YamlValue::parse(text, name));
  return config_of(file);
}

Result<AllocatorConfig> load_allocator_config(const std::string& path) {
  NITRO_TRY(const YamlValue file, YamlValue::load(path));
  return config_of(file);
}

}  // namespace nitro::allocator
