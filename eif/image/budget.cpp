// SPDX-License-Identifier: Apache-2.0
#include "eif/image/budget.h"

#include <cstdlib>
#include <limits>

namespace nitro::image {

namespace {

// Precedes every block of a ChargedHeap: its size, for free(). Preserves the alignment of malloc(3).
struct alignas(std::max_align_t) BlockHead {
  std::size_t size_bytes;
};

std::string in_words(std::uint64_t bytes) {
  constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
  return bytes % kMiB == 0 ? std::to_string(bytes / kMiB) + " MiB" : std::to_string(bytes) + " bytes";
}

}  // namespace

void Budget::take(std::uint64_t bytes) {
  if (bytes > limit_ - used_) {
    throw Exceeded(std::string(what_) + " would take more than the " + in_words(limit_) + " of memory that " +
                   (parent_ == nullptr ? "an image may take" : "an image may take for them"));
  }
  if (parent_ != nullptr) parent_->take(bytes);
  used_ += bytes;
}

void Budget::give_back(std::uint64_t bytes) noexcept {
  used_ -= bytes;
  if (parent_ != nullptr) parent_->give_back(bytes);
}

Result<Charge> Charge::of(Budget& budget, std::uint64_t bytes) {
  Charge charge(budget);
  NITRO_CHECK(charge.resize(bytes));
  return charge;
}

Result<void> Charge::resize(std::uint64_t bytes) {
  return Budget::run([&]() -> Result<void> {
    if (bytes > bytes_) budget_->take(bytes - bytes_);
    if (bytes < bytes_) budget_->give_back(bytes_ - bytes);
    bytes_ = bytes;
    return {};
  });
}

void* ChargedHeap::allocate(std::size_t count, std::size_t size_bytes) noexcept {
  constexpr auto kMost = std::numeric_limits<std::size_t>::max() - sizeof(BlockHead);
  if (size_bytes != 0 && count > kMost / size_bytes) return nullptr;
  const auto block_bytes = count * size_bytes + sizeof(BlockHead);
  try {
    budget_->take(block_bytes);
  } catch (const Budget::Exceeded& exceeded) {
    exceeded_ = exceeded.message();
    return nullptr;
  }
  auto* const head = static_cast<BlockHead*>(std::malloc(block_bytes));
  if (head == nullptr) {
    budget_->give_back(block_bytes);
    return nullptr;
  }
  head->size_bytes = block_bytes;
  return head + 1;
}

void ChargedHeap::free(void* memory) noexcept {
  if (memory == nullptr) return;
  auto* const head = static_cast<BlockHead*>(memory) - 1;
  budget_->give_back(head->size_bytes);
  std::free(head);
}

}  // namespace nitro::image
