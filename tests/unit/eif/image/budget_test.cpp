// SPDX-License-Identifier: Apache-2.0
#include "eif/image/budget.h"

#include <gtest/gtest.h>

#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

std::string refusal_of(const Result<void>& result) {
  return result ? "" : result.error().message();
}

TEST(Budget, IsGivenBackWhatContainersLetGo) {
  Budget budget;
  {
    HeldString text(std::string_view("longer than what a string holds without memory"), budget);
    HeldVector<int> numbers(1000, 7, budget);
    HeldMap<HeldString, int> names(budget);
    names.emplace(text, 1);
    auto copy = numbers;
    auto moved = std::move(text);
    EXPECT_GE(budget.used_bytes(), 2 * 1000 * sizeof(int) + 2 * moved.size());
    numbers = HeldVector<int>(budget);
    copy.swap(numbers);
  }
  EXPECT_EQ(budget.used_bytes(), 0U);
}

TEST(Budget, RefusesWhatIsBeyondItAndKeepsWhatItHas) {
  Budget budget(1000);
  HeldVector<char> bytes(budget);
  const auto grow = [&](std::size_t size) {
    return Budget::run([&]() -> Result<void> {
      bytes.resize(size);
      return {};
    });
  };
  EXPECT_OK(grow(600));
  const auto used = budget.used_bytes();
  EXPECT_PRED2(contains, refusal_of(grow(2000)), "the image would take more than the 1000 bytes of memory");
  EXPECT_EQ(budget.used_bytes(), used);
  EXPECT_EQ(bytes.size(), 600U);
}

TEST(Budget, OfAPartChargesTheWholeAndSaysWhichOfTheTwoIsUsedUp) {
  Budget whole(2 << 20);
  Budget part("the names of its files", 1 << 20, whole);
  const auto hold = [](Budget& budget, std::size_t bytes) {
    return Budget::run([&]() -> Result<void> {
      HeldVector<char>(bytes, budget);
      return {};
    });
  };
  EXPECT_PRED2(contains, refusal_of(hold(part, 2 << 20)), "the names of its files would take more than the 1 MiB");
  HeldVector<char> most(3 << 19, whole);
  EXPECT_PRED2(contains, refusal_of(hold(part, 1 << 19)), "the image would take more than the 2 MiB");
  EXPECT_EQ(part.used_bytes(), 0U);
  EXPECT_OK(hold(part, 1 << 18));
  EXPECT_EQ(part.used_bytes(), 0U);
}

TEST(Charge, ChangesItsSizeAndIsGivenBackOnce) {
  Budget budget(100);
  auto charge = Charge::of(budget, 60);
  ASSERT_OK(charge);
  EXPECT_FALSE(Charge::of(budget, 41));
  EXPECT_OK(charge->resize(100));
  EXPECT_FALSE(charge->resize(101));
  EXPECT_EQ(budget.used_bytes(), 100U);
  EXPECT_OK(charge->resize(10));
  auto moved = *std::move(charge);
  moved = Charge();
  EXPECT_EQ(budget.used_bytes(), 0U);
}

TEST(ChargedHeap, IsMallocUntilTheBudgetIsUsedUp) {
  Budget budget(4096);
  ChargedHeap heap(budget);
  void* const block = heap.allocate(10, 100);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignof(std::max_align_t), 0U);
  EXPECT_EQ(heap.exceeded(), "");
  EXPECT_EQ(heap.allocate(4, 1000), nullptr);
  EXPECT_PRED2(contains, heap.exceeded(), "4096 bytes");
  EXPECT_EQ(heap.allocate(~std::size_t{0} / 2, 3), nullptr);
  heap.free(block);
  heap.free(nullptr);
  EXPECT_EQ(budget.used_bytes(), 0U);
}

TEST(Document, IsChargedBeforeItIsParsedAndAsLongAsItLives) {
  Budget budget;
  {
    const auto document = parse_document(R"({"a":[1,2,{"b":"c"}]})", "the manifest", budget);
    ASSERT_OK(document);
    EXPECT_GT(budget.used_bytes(), 200U);
  }
  EXPECT_EQ(budget.used_bytes(), 0U);
  Budget small(1 << 20);
  std::string many("[0");
  for (int i = 0; i < 20000; ++i) many += ",0";
  const auto refused = parse_document(many + "]", "the manifest", small);
  ASSERT_FALSE(refused);
  EXPECT_PRED2(contains, refused.error().message(), "the manifest: the image would take more than the 1 MiB of memory");
}

TEST(Document, ThatIsAnAnswerHasABudgetOfItsOwn) {
  std::string many("[{}");
  for (int i = 0; i < 700'000; ++i) many += ",{}";
  const auto refused = parse_document(many + "]", "the registry's answer");
  ASSERT_FALSE(refused);
  EXPECT_PRED2(contains, refused.error().message(), "the registry's answer is too large");
}

}  // namespace
}  // namespace nitro::image
