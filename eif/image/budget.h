// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nitro/result.h"

namespace nitro::image {

/// The most memory that one image can make us hold, whatever it contains.
inline constexpr std::uint64_t kMaxHeldBytes = std::uint64_t{1} << 30;

/// How much memory an image may take, and has taken so far. One is created for a build and passed to everything that
/// keeps content of the image: documents, tar readers, the tree, decoders. A part (such as the names) may have its own
/// budget with a lower limit, which also charges its parent.
///
/// Where memory grows with the input, no budget is charged by hand: containers use it as their allocator (HeldVector
/// and the like have no other), C libraries as their heap (ChargedHeap), and parsers that know their needs in advance
/// take a Charge. Code that takes no budget only holds data of bounded size.
///
/// Must outlive what is charged to it. Not thread-safe.
class Budget {
 public:
  /// Creates the budget of a whole image.
  explicit Budget(std::uint64_t limit_bytes = kMaxHeldBytes) : Budget("the image", limit_bytes, nullptr) {}
  /// Creates a part of `parent`. `what` is used in messages ("the names of files"); it is borrowed.
  Budget(const char* what, std::uint64_t limit_bytes, Budget& parent) : Budget(what, limit_bytes, &parent) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// Thrown by containers, which have no other way to report that they cannot grow. run() turns it into a Failure.
  class Exceeded : public std::bad_alloc {
   public:
    explicit Exceeded(std::string message) : message_(std::move(message)) {}
    [[nodiscard]] const std::string& message() const { return message_; }
    [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

   private:
    std::string message_;
  };

  /// Calls `work`, which returns a Result or another expected value with the error type that `refuse` returns, and
  /// turns Exceeded into refuse(message). Every function that lets held containers grow must run inside it.
  template <class Work, class Refuse>
  static auto run(Work&& work, Refuse&& refuse) -> std::invoke_result_t<Work> {
    try {
      return std::forward<Work>(work)();
    } catch (const Exceeded& exceeded) {
      return std::forward<Refuse>(refuse)(exceeded.message());
    }
  }
  /// The same with a kEifBuilding failure.
  template <class Work>
  static auto run(Work&& work) -> std::invoke_result_t<Work> {
    return run(std::forward<Work>(work),
               [](std::string message) { return fail(ErrorCode::kEifBuilding, std::move(message)); });
  }

  [[nodiscard]] std::uint64_t used_bytes() const { return used_; }
  [[nodiscard]] std::uint64_t limit_bytes() const { return limit_; }

  /// For allocators: takes `bytes`, or takes nothing and throws Exceeded, whose message names the subject and the
  /// limit.
  void take(std::uint64_t bytes);
  void give_back(std::uint64_t bytes) noexcept;

 private:
  Budget(const char* what, std::uint64_t limit_bytes, Budget* parent)
      : what_(what), limit_(limit_bytes), parent_(parent) {}

  const char* what_;
  std::uint64_t limit_;
  std::uint64_t used_ = 0;
  Budget* parent_;  // nullptr: the image's own
};

/// Memory that is charged as long as this object lives.
class Charge {
 public:
  /// An empty charge.
  Charge() = default;
  /// Errors: kEifBuilding when the budget has less left.
  static Result<Charge> of(Budget& budget, std::uint64_t bytes);
  Charge(Charge&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Charge& operator=(Charge other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Charge() {
    if (budget_ != nullptr) budget_->give_back(bytes_);
  }
  /// Sets the charge to `bytes` in total. Errors: kEifBuilding; the charge is then unchanged.
  Result<void> resize(std::uint64_t bytes);

 private:
  explicit Charge(Budget& budget) : budget_(&budget) {}

  Budget* budget_ = nullptr;
  std::uint64_t bytes_ = 0;
};

/// The allocator of held containers. It has no default constructor, so such a container cannot be created without a
/// budget. Copies of a container are charged to the same budget.
template <class T>
class ChargedAllocator {
 public:
  using value_type = T;
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;

  // Implicit, so that a budget can be passed as an allocator.
  ChargedAllocator(Budget& budget) noexcept : budget_(&budget) {}
  template <class U>
  ChargedAllocator(const ChargedAllocator<U>& other) noexcept : budget_(&other.budget()) {}

  T* allocate(std::size_t count) {
    budget_->take(cost(count));
    try {
      return std::allocator<T>().allocate(count);
    } catch (...) {
      budget_->give_back(cost(count));
      throw;
    }
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    std::allocator<T>().deallocate(memory, count);
    budget_->give_back(cost(count));
  }

  [[nodiscard]] Budget& budget() const { return *budget_; }
  template <class U>
  bool operator==(const ChargedAllocator<U>& other) const noexcept {
    return budget_ == &other.budget();
  }

 private:
  // malloc's own bookkeeping counts: it is most of the size of many small blocks.
  static constexpr std::uint64_t kBlockBytes = 16;
  static constexpr std::uint64_t cost(std::size_t count) { return std::uint64_t{count} * sizeof(T) + kBlockBytes; }

  Budget* budget_;
};

using HeldString = std::basic_string<char, std::char_traits<char>, ChargedAllocator<char>>;
template <class T>
using HeldVector = std::vector<T, ChargedAllocator<T>>;
template <class Key, class Compare = std::less<>>
using HeldSet = std::set<Key, Compare, ChargedAllocator<Key>>;
template <class Key, class Value, class Compare = std::less<>>
using HeldMap = std::map<Key, Value, Compare, ChargedAllocator<std::pair<const Key, Value>>>;
template <class Key, class Value>
using HeldHashMap =
    std::unordered_map<Key, Value, std::hash<Key>, std::equal_to<Key>, ChargedAllocator<std::pair<const Key, Value>>>;

/// malloc(3) and free(3) for a C library that accepts such functions. Exceeding the budget looks to the library like
/// running out of memory; exceeded() tells the two apart.
class ChargedHeap {
 public:
  explicit ChargedHeap(Budget& budget) : budget_(&budget) {}
  ChargedHeap(const ChargedHeap&) = delete;
  ChargedHeap& operator=(const ChargedHeap&) = delete;

  /// Returns nullptr if there is none left.
  [[nodiscard]] void* allocate(std::size_t count, std::size_t size_bytes) noexcept;
  void free(void* memory) noexcept;
  /// Returns the message of the exceeded budget; empty if it was not exceeded.
  [[nodiscard]] const std::string& exceeded() const { return exceeded_; }

 private:
  Budget* budget_;
  std::string exceeded_;
};

}  // namespace nitro::image
