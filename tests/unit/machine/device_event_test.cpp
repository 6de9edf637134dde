// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/machine/hypervisor.h"

namespace nitro::machine {
namespace {

using Kind = DeviceEvent::Kind;

TEST(DeviceEventTest, SaysWhichEnclaveStarts) {
  const auto event = DeviceEvent::parse("START cid=18 flags=1 vcpus=2 regions=64 mem=128M");
  EXPECT_EQ(event.kind, Kind::kStart);
  EXPECT_EQ(event.cid, 18U);
  EXPECT_TRUE(event.debug_mode);
  EXPECT_EQ(event.memory_mib, 128U);
  EXPECT_FALSE(DeviceEvent::parse("START cid=4294967295 flags=0 vcpus=2 regions=64 mem=70M").debug_mode);
}

TEST(DeviceEventTest, SaysWhichEnclaveStopsIfTheDeviceDoes) {
  EXPECT_EQ(DeviceEvent::parse("STOP cid=19").kind, Kind::kStop);
  EXPECT_EQ(DeviceEvent::parse("STOP cid=19").cid, 19U);
  EXPECT_EQ(DeviceEvent::parse("STOP").kind, Kind::kStop);
  EXPECT_EQ(DeviceEvent::parse("STOP").cid, 0U);
}

TEST(DeviceEventTest, HasAKindForEveryOtherLine) {
  EXPECT_EQ(DeviceEvent::parse("IMAGE 6316719 bytes").kind, Kind::kImage);
  for (const char* line :
       {"", "SLOT_ALLOC", "ADD_MEM size=2M", "ADD_VCPU 1", "CRASH cid=16", "STARTED", "no image at 8 MiB"})
    EXPECT_EQ(DeviceEvent::parse(line).kind, Kind::kOther) << line;
}

}  // namespace
}  // namespace nitro::machine
