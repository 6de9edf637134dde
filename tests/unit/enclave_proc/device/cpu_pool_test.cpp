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

TEST(CpuPool, RejectsListsThatAreNoneAndSaysWhatIsWrong) {
  struct Case {
    std::string list;
    ErrorCode code;
    std::string message;
  };
  const auto no_number = [](const std::string& list, const std::string& part) {
    return Case{list, ErrorCode::kMalformedCpuId, "\"" + part + "\" is not the number of a CPU"};
  };
  const Case cases[] = {
      no_number("x", "x"),
      no_number("1,", ""),
      no_number(",1", ""),
      no_number("1,,2", ""),
      no_number("-3", ""),
      no_number("1-", ""),
      no_number("0x06", "0x06"),
      no_number("3+5,7-10", "3+5"),
      no_number("3-a", "a"),
      no_number("1-7:1/2", "7:1/2"),
      no_number("65536", "65536"),
      no_number("4294967296", "4294967296"),
      no_number("0-4294967295", "4294967295"),
      {"0,1-2-3,9", ErrorCode::kCpu, "\"1-2-3\" is not a range of CPUs"},
      {"1--3", ErrorCode::kCpu, "\"1--3\" is not a range of CPUs"},
      {"5-3", ErrorCode::kCpu, "the range of CPUs \"5-3\" ends before it begins"},
  };
  for (const Case& one : cases) {
    const auto pool = CpuPool::parse(one.list);
    ASSERT_FALSE(pool) << one.list;
    EXPECT_EQ(pool.error().code(), one.code) << one.list;
    EXPECT_EQ(pool.error().message(), one.message) << one.list;
  }
}

TEST(CpuPool, HasNoMoreCpusThanThereCanBe) {
  EXPECT_EQ(CpuPool::parse("0-65534,65535").value().ids().size(), 65536U);
  const auto pool = CpuPool::parse("0-65535,1");
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code(), ErrorCode::kCpu);
  EXPECT_EQ(pool.error().message(), "the list names more CPUs than there can be");
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

TEST(CpuPool, RefusesRequestsThatItCannotServeAndSaysWhy) {
  struct Case {
    std::string pool;
    RunRequest request;
    ErrorCode code;
    std::string message;
  };
  const std::string no_cpu = "an enclave needs at least one CPU, but none was requested";
  const Case cases[] = {
      {"1,3,5", request_ids({1, 1}), ErrorCode::kInvalidCpuConfiguration, "CPU 1 is named twice"},
      // What is wrong with the request itself comes before what the machine does not have.
      {"1,3,5", request_ids({9, 1, 9}), ErrorCode::kInvalidCpuConfiguration, "CPU 9 is named twice"},
      {"1,3,5", request_ids({1, 2}), ErrorCode::kNoSuchCpuInPool,
       "CPU 2 is not in the pool for enclaves, which is [1, 3, 5]"},
      {"1,3", request_ids({0}), ErrorCode::kNoSuchCpuInPool, "CPU 0 is not in the pool for enclaves, which is [1, 3]"},
      {"1,3,5", request_count(4), ErrorCode::kInsufficientCpus,
       "4 CPUs were requested, but the pool for enclaves has 3"},
      {"1,3,5", request_count(0xffffffff), ErrorCode::kInsufficientCpus,
       "4294967295 CPUs were requested, but the pool for enclaves has 3"},
      {"\n", request_count(1), ErrorCode::kInsufficientCpus,
       "1 CPUs were requested, but the pool for enclaves is empty"},
      {"1,3,5", request_count(0), ErrorCode::kIoctl, no_cpu},
      {"1,3,5", request_ids({}), ErrorCode::kIoctl, no_cpu},
  };
  for (const Case& one : cases) {
    const auto checked = CpuPool::parse(one.pool).value().check(one.request);
    ASSERT_FALSE(checked) << one.message;
    EXPECT_EQ(checked.error().code(), one.code) << one.message;
    EXPECT_EQ(checked.error().message(), one.message);
  }
}

}  // namespace
}  // namespace nitro::proc
