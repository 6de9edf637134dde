// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "src/base/bytes.h"
#include "src/base/cpu_list.h"
#include "src/base/json.h"
#include "src/base/output_file.h"

namespace nitro::allocator {
namespace {

using nlohmann::ordered_json;

constexpr ErrorCode kCode = ErrorCode::kFileOperation;

ordered_json json_of(const Settings& settings) {
  ordered_json nodes = ordered_json::array();
  for (const Node& node : settings.nodes) {
    ordered_json pages = ordered_json::array();
    for (const HugePages& size : node.pages)
      pages.push_back({{"folder", size.folder}, {"size_bytes", size.size_bytes}, {"total", size.total}});
    nodes.push_back({{"id", node.id}, {"pages", std::move(pages)}});
  }
  return {{"cpu_pool", cpu_list_of(settings.cpu_pool)}, {"nodes", std::move(nodes)}};
}

std::optional<std::uint64_t> number_at(const ordered_json& object, const char* key) {
  const ordered_json* value = value_at(object, key);
  if (value == nullptr || !value->is_number_unsigned()) return std::nullopt;
  return value->get<std::uint64_t>();
}

std::optional<HugePages> pages_of(const ordered_json& object) {
  const auto size = number_at(object, "size_bytes");
  const auto total = number_at(object, "total");
  if (!size || !total || *size == 0) return std::nullopt;
  return HugePages{.size_bytes = *size, .total = *total, .folder = text_at(object, "folder")};
}

std::optional<Settings> settings_of(const ordered_json& json) {
  Settings settings;
  auto cpus = parse_cpu_list(text_at(json, "cpu_pool"));
  const ordered_json* nodes = array_at(json, "nodes");
  if (!cpus || nodes == nullptr) return std::nullopt;
  settings.cpu_pool = std::move(*cpus);
  for (const ordered_json& item : *nodes) {
    const auto id = number_at(item, "id");
    const ordered_json* all = array_at(item, "pages");
    if (!id || all == nullptr) return std::nullopt;
    Node& node = settings.nodes.emplace_back();
    node.id = static_cast<unsigned>(*id);
    for (const ordered_json& one : *all) {
      auto pages = pages_of(one);
      if (!pages) return std::nullopt;
      node.pages.push_back(std::move(*pages));
    }
  }
  return settings;
}

}  // namespace

Result<Record> Record::open(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(kCode, "creating " + quote(folder), error.value());
  NITRO_TRY(Fd lock, open_file(folder + "/allocator.lock", O_RDWR | O_CREAT, 0600));
  while (::flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_errno(kCode, "locking " + quote(folder + "/allocator.lock"));
  }
  return Record(folder + "/allocator-before.json", std::move(lock));
}

Result<std::optional<Settings>> Record::load() const {
  auto text = read_text_file(path_);
  if (!text && text.error().system_errno() == ENOENT) return std::optional<Settings>();
  if (!text) return Failure(std::move(text).error());
  const auto json = parse_json(*text, kCode);
  auto settings = json ? settings_of(*json) : std::nullopt;
  if (!settings) return fail(kCode, quote(path_) + " is damaged: remove it, and set huge pages and CPUs by hand");
  return settings;
}

Result<void> Record::save(const Settings& settings) const {
  NITRO_TRY(OutputFile file, OutputFile::create(path_, 0600));
  NITRO_CHECK(write_all(file.fd(), as_bytes(json_of(settings).dump(2) + "\n")));
  return file.commit();
}

Result<void> Record::remove() const {
  if (::unlink(path_.c_str()) == 0 || errno == ENOENT) return {};
  return fail_errno(kCode, "removing " + quote(path_));
}

}  // namespace nitro::allocator
