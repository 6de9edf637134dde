// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/privileges.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "ordinary_user.h"
#include "src/runtime/child.h"
#include "temp_folder.h"

namespace nitro {
namespace {

constexpr uid_t kStranger = 0x70001234;

/// What /proc/PID/status says of a child that has executed a program.
class ChildStatus {
 public:
  explicit ChildStatus(ChildOptions options) {
    options.arguments = {"sleep", "1000"};
    auto child = Child::spawn(options);
    if (!child) throw std::runtime_error(child.error().message());
    text_ = testing::read_file("/proc/" + std::to_string(child->pid()) + "/status");
  }
  [[nodiscard]] std::string operator[](const std::string& key) const {
    const std::size_t start = text_.find("\n" + key + ":\t") + key.size() + 3;
    return text_.substr(start, text_.find('\n', start) - start);
  }

 private:
  std::string text_;
};

TEST(Privileges, AChildOfRootCanRunAsAnotherUserInOtherGroups) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can change its user";
  ChildOptions options;
  options.user = UserIds{.uid = kStranger, .gid = kStranger, .groups = {kStranger + 1}};
  options.drop_capabilities = true;
  options.parent_death_signal = SIGKILL;
  const ChildStatus status(options);
  const std::string number = std::to_string(kStranger);
  EXPECT_EQ(status["Uid"], number + "\t" + number + "\t" + number + "\t" + number);
  EXPECT_EQ(status["Gid"], status["Uid"]);
  EXPECT_EQ(status["Groups"], std::to_string(kStranger + 1) + " ");
  EXPECT_EQ(status["CapPrm"], "0000000000000000");
  EXPECT_EQ(status["NoNewPrivs"], "1");
}

TEST(Privileges, AProgramOfRootStaysWithoutCapabilities) {
  ChildOptions options;
  options.drop_capabilities = true;
  const ChildStatus status(options);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) EXPECT_EQ(status[set], "0000000000000000") << set;
  if (::geteuid() == 0) {
    EXPECT_EQ(status["CapBnd"], "0000000000000000");
  }
  EXPECT_EQ(status["NoNewPrivs"], "1");
}

TEST(Privileges, AUserWhoCannotBeIsAnErrorOfTheStart) {
  const testing::OrdinaryUser nobody;
  ChildOptions options;
  options.arguments = {"true"};
  options.user = UserIds{.uid = 0, .gid = 0, .groups = {}};
  const auto child = Child::spawn(options);
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().system_errno(), EPERM);
}

TEST(Privileges, TheMemoryOfAProcessCanBeClosedToOthers) {
  EXPECT_EXIT(
      {
        forbid_memory_dumps();
        ::_exit(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace nitro
