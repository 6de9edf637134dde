// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/allocation.h"

namespace nitro::allocator {

Result<Reservation> allocate(const AllocatorConfig& config, Kernel& kernel, const Record& record,
                             const Progress& progress) {
  NITRO_TRY(const auto recorded, record.load());
  if (!recorded) {
    // First, so that it is there whatever ends this program.
    NITRO_TRY(const Topology before, kernel.topology());
    NITRO_CHECK(record.save(Settings::of(before)));
  }
  auto reserved = reserve(config, kernel, progress);
  // What was there without a record is not ours to give back.
  if (!recorded && (!reserved || reserved->was_there)) NITRO_CHECK(record.remove());
  // Where only CPUs are asked for, all pages stay.
  if (!reserved || !recorded || !config.wants_memory()) return reserved;
  std::vector<Node> others;
  for (const Node& node : recorded->nodes) {
    if (node.id != reserved->node) others.push_back(node);
  }
  auto restored = restore_pages(others, kernel);
  if (!restored) progress.warn(restored.error().message());
  return reserved;
}

Result<void> release(Kernel& kernel, const Record& record) {
  NITRO_TRY(const Topology now, kernel.topology());
  NITRO_CHECK(release_cpus(now, kernel));
  NITRO_TRY(const auto before, record.load());
  if (!before) return {};
  NITRO_CHECK(restore(*before, kernel));
  return record.remove();
}

}  // namespace nitro::allocator
