// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/cpu_pool.h"

#include <filesystem>

#include "temp_folder.h"

namespace nitro::proc {
namespace {

using Ids = std::vector<std::uint32_t>;
using testing::TempFolder;

/// A tree that has the pool's file, as sysfs would.
class Tree {
 public:
  explicit Tree(const std::string& list) {
    const std::filesystem::path path(files().cpu_pool());
    std::filesystem::create_directories(path.parent_path());
    testing::write_file(path, list);
  }
  [[nodiscard]] KernelFiles files() const { return {.root = folder_.path()}; }

 private:
  TempFolder folder_;
};

RunRequest request_ids(Ids ids) {
  RunRequest request;
  request.cpus = std::move(ids);
  return request;
}

RunRequest request_count(std::uint32_t count) {
  RunRequest request;
  request.cpus = count;
  return request;
}

TEST(CpuPool, ReadsTheListsOfTheKernel) {
  const std::vector<std::pair<std::string, Ids>> lists = {
      {"1-3", {1, 2, 3}},
      {"1-3\n", {1, 2, 3}},
      {"1,3,5-6\n", {1, 3, 5, 6}},
      {"7", {7}},
      {"4-4", {4}},
      {" 1 , 2 - 3 ", {1, 2, 3}},
      {"1-2\n\n5\n", {1, 2, 5}},
      {"", {}},
      {"\n", {}},
      {" \t\n", {}},
      {"65535", {65535}},
  };
  for (const auto& [text, ids] : lists) {
    const auto pool = CpuPool::parse(text);
    ASSERT_OK(pool) << text;
    EXPECT_EQ(pool->ids(), ids) << text;
  }
}

TEST(CpuPool, RejectsListsThatAreNone) {
  const std::vector<std::pair<std::string, ErrorCode>> lists = {
      {"x", ErrorCode::kMalformedCpuId},
      {"1,", ErrorCode::kMalformedCpuId},
      {",1", ErrorCode::kMalformedCpuId},
      {"1,,2", ErrorCode::kMalformedCpuId},
      {"-3", ErrorCode::kMalformedCpuId},
      {"1-", ErrorCode::kMalformedCpuId},
      {"0x06", ErrorCode::kMalformedCpuId},
      {"3+5,7-10", ErrorCode::kMalformedCpuId},
      {"3-a", ErrorCode::kMalformedCpuId},
      {"1-7:1/2", ErrorCode::kMalformedCpuId},
      {"4294967296", ErrorCode::kMalformedCpuId},
      {"0-4294967295", ErrorCode::kMalformedCpuId},
      {"1-2-3", ErrorCode::kCpu},
      {"1--3", ErrorCode::kCpu},
      {"5-3", ErrorCode::kCpu},
  };
  for (const auto& [text, code] : lists) {
    const auto pool = CpuPool::parse(text);
    ASSERT_FALSE(pool) << text;
    EXPECT_EQ(pool.error().code(), code) << text << ": " << pool.error().message();
  }
}

TEST(CpuPool, HasNoMoreCpusThanThereCanBe) {
  EXPECT_EQ(CpuPool::parse("0-65534,65535").value().ids().size(), 65536U);
  const auto pool = CpuPool::parse("0-65535,1");
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code(), ErrorCode::kCpu);
}

TEST(CpuPool, IsReadFromSysfs) {
  const Tree tree("2-3,6\n");
  const auto pool = CpuPool::read(tree.files());
  ASSERT_OK(pool);
  EXPECT_EQ(pool->ids(), (Ids{2, 3, 6}));
}

TEST(CpuPool, NamesItsFileWhenTheListIsBroken) {
  const Tree tree("2-z\n");
  const auto pool = CpuPool::read(tree.files());
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code(), ErrorCode::kMalformedCpuId);
  EXPECT_NE(pool.error().message().find("ne_cpus\": \"z\""), std::string::npos) << pool.error().message();
}

TEST(CpuPool, SaysThatLocalEnclavesExistWhereThereIsNoDriver) {
  const TempFolder empty;
  const auto pool = CpuPool::read({.root = empty.path()});
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code(), ErrorCode::kFileOperation);
  EXPECT_EQ(pool.error().system_errno(), ENOENT);
  EXPECT_NE(pool.error().message().find("--local"), std::string::npos);
}

TEST(CpuPool, TakesRequestsThatItCanServe) {
  const auto pool = CpuPool::parse("1,3,5").value();
  for (const RunRequest& request : {request_ids({1}), request_ids({5, 1}), request_ids({1, 3, 5}), request_count(1),
                                    request_count(3), RunRequest{}}) {
    EXPECT_OK(pool.check(request));
  }
}

TEST(CpuPool, RefusesRequestsThatItCannotServe) {
  const auto pool = CpuPool::parse("1,3,5").value();
  const std::vector<std::pair<RunRequest, ErrorCode>> requests = {
      {request_ids({1, 1}), ErrorCode::kInvalidCpuConfiguration},
      // What is wrong with the request itself comes before what the machine does not have.
      {request_ids({9, 1, 9}), ErrorCode::kInvalidCpuConfiguration},
      {request_ids({1, 2}), ErrorCode::kNoSuchCpuInPool},
      {request_ids({0}), ErrorCode::kNoSuchCpuInPool},
      {request_count(4), ErrorCode::kInsufficientCpus},
      {request_count(0), ErrorCode::kIoctl},
      {request_ids({}), ErrorCode::kIoctl},
      {request_count(0xffffffff), ErrorCode::kInsufficientCpus},
  };
  for (const auto& [request, code] : requests) {
    const auto checked = pool.check(request);
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code(), code) << checked.error().message();
  }
}

TEST(CpuPool, SaysWhichCpuAndWhichPool) {
  const auto pool = CpuPool::parse("1,3").value();
  EXPECT_EQ(pool.check(request_ids({3, 2})).error().message(),
            "CPU 2 is not in the pool for enclaves, which is [1, 3]");
  EXPECT_EQ(pool.check(request_count(5)).error().message(), "5 CPUs are asked for, the pool for enclaves has 2");
}

TEST(CpuPool, ThatIsEmptyServesNobody) {
  const auto pool = CpuPool::parse("\n").value();
  const auto checked = pool.check(request_count(1));
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), ErrorCode::kInsufficientCpus);
}

}  // namespace
}  // namespace nitro::proc
