// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/address_block.h"

#include <gtest/gtest.h>

namespace nitro::proxy {
namespace {

IpAddress ip(std::string_view text) {
  const auto address = IpAddress::parse(text);
  EXPECT_TRUE(address) << text;
  return address.value_or(IpAddress());
}

bool contains(std::string_view block, std::string_view address) {
  const auto parsed = AddressBlock::parse(block);
  EXPECT_TRUE(parsed) << block;
  return parsed && parsed->contains(ip(address));
}

TEST(IpAddress, IsReadInItsUsualForms) {
  EXPECT_EQ(ip("10.0.0.1").text(), "10.0.0.1");
  EXPECT_EQ(ip("2001:DB8::1").text(), "2001:db8::1");
  for (const char* text : {"", "10.0.0", "10.0.0.1.", "010.0.0.1x", "0x7f.0.0.1", "2130706433", "[::1]", "fe80::1%eth0",
                           "10.0.0.1:80", " 10.0.0.1", "1:2"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
  EXPECT_FALSE(IpAddress::parse(std::string_view("10.0.0.1\0", 9)));
}

TEST(IpAddress, IsTheIpv4AddressThatAMappedOneReaches) {
  EXPECT_EQ(ip("::ffff:127.0.0.1"), ip("127.0.0.1"));
  EXPECT_EQ(ip("::ffff:a9fe:a9fe").text(), "169.254.169.254");
}

TEST(IpAddress, IsLocalIfItLeadsToThisMachineOrItsSurroundings) {
  for (const char* text :
       {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "fe80::1", "febf::1", "ff02::1", "fd00:ec2::254",
        "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "2002:7f00:1::", "2002:a9fe:a9fe::1"}) {
    EXPECT_TRUE(ip(text).is_local()) << text;
  }
  for (const char* text : {"1.1.1.1", "10.0.0.1", "126.255.255.255", "128.0.0.1", "169.253.0.1", "223.255.255.255",
                           "2600:1f00::1", "fd00:1::1", "fec0::1", "64:ff9b::101:101", "2002:101:101::"}) {
    EXPECT_FALSE(ip(text).is_local()) << text;
  }
}

TEST(AddressBlock, ContainsTheAddressesOfItsPrefix) {
  EXPECT_TRUE(contains("10.0.0.0/8", "10.255.0.1"));
  EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(contains("10.1.2.3", "10.1.2.3"));
  EXPECT_FALSE(contains("10.1.2.3", "10.1.2.2"));
  EXPECT_TRUE(contains("192.0.2.128/25", "192.0.2.255"));
  EXPECT_FALSE(contains("192.0.2.128/25", "192.0.2.127"));
  EXPECT_TRUE(contains("0.0.0.0/0", "203.0.113.1"));
  EXPECT_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(contains("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(contains("2001:db8::/33", "2001:db8:8000::1"));
  EXPECT_TRUE(contains("::/0", "2001:db8::1"));
}

TEST(AddressBlock, HasNoBitsAfterItsPrefix) {
  for (const char* text : {"10.1.2.3/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8 ", "10.0.0.0/+8",
                           "2001:db8::1/64", "::/129", "::ffff:0:0/96", "/8", ""}) {
    EXPECT_FALSE(AddressBlock::parse(text)) << text;
  }
}

}  // namespace
}  // namespace nitro::proxy
