// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu_user.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "temp_folder.h"

namespace nitro::proc {
namespace {

constexpr std::uint64_t kSlot = 0x1234567812345678;

class QemuUser : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root's QEMU gets another user";
    nitro::testing::write_file(device_, "");
  }
  std::optional<UserIds> with_device(mode_t mode, gid_t group) {
    EXPECT_EQ(::chown(device_.c_str(), 0, group), 0);
    EXPECT_EQ(::chmod(device_.c_str(), mode), 0);
    return qemu_user(kSlot, device_.c_str());
  }

  nitro::testing::TempFolder folder_;
  const std::string device_ = folder_ / "kvm";
};

TEST_F(QemuUser, IsAnotherForEachEnclaveAndOfTheRangeThatNobodyUses) {
  for (const std::uint64_t slot : {std::uint64_t{0}, kSlot, ~std::uint64_t{0}}) {
    const auto user = qemu_user(slot, nullptr);
    ASSERT_TRUE(user);
    EXPECT_GE(user->uid, kFirstQemuUid);
    EXPECT_LT(user->uid - kFirstQemuUid, kQemuUidCount);
    EXPECT_EQ(user->gid, user->uid);
    EXPECT_TRUE(user->groups.empty());
  }
  EXPECT_NE(qemu_user(1, nullptr)->uid, qemu_user(2, nullptr)->uid);
}

TEST_F(QemuUser, IsInTheGroupOfTheDeviceThatItHasToOpen) {
  EXPECT_EQ(with_device(0660, 109)->groups, std::vector<gid_t>{109});
  EXPECT_TRUE(with_device(0666, 109)->groups.empty());
}

TEST_F(QemuUser, IsRootWhereOnlyRootCanOpenTheDevice) {
  EXPECT_FALSE(with_device(0600, 109));
  EXPECT_FALSE(with_device(0640, 109));
  // This group opens more than a device.
  EXPECT_FALSE(with_device(0660, 0));
}

}  // namespace
}  // namespace nitro::proc
