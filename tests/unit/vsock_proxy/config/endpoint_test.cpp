// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/endpoint.h"

#include <gtest/gtest.h>

#include "temp_folder.h"

namespace nitro::proxy {
namespace {

TEST(Endpoint, IsReadAndWrittenTheSameWay) {
  for (const char* text : {"vsock:8000", "vsock:3:8000", "vsock:0:0", "vsock:4294967294:4294967294", "tcp:127.0.0.1:80",
                           "tcp:[2001:db8::1]:443", "unix:/run/x.sock"}) {
    const auto endpoint = parse_endpoint(text, Side::kListen);
    ASSERT_OK(endpoint);
    EXPECT_EQ(endpoint->text(), text);
  }
  for (const char* text : {"vsock:16:5000", "tcp:kms.example:443", "tcp:[2001:db8::1]:1", "unix:/run/x.sock"}) {
    const auto endpoint = parse_endpoint(text, Side::kConnect);
    ASSERT_OK(endpoint);
    EXPECT_EQ(endpoint->text(), text);
  }
  EXPECT_EQ(parse_endpoint("tcp:KMS.Example.:443", Side::kConnect)->host, "kms.example");
  EXPECT_EQ(parse_endpoint("tcp:[::ffff:10.0.0.1]:443", Side::kConnect)->text(), "tcp:10.0.0.1:443");
}

std::string fault_of(std::string_view text, Side side) {
  const auto endpoint = parse_endpoint(text, side);
  return endpoint ? "it is valid: " + endpoint->text() : endpoint.error().message();
}

TEST(Endpoint, ThatIsWrongSaysHowItIsWritten) {
  EXPECT_EQ(fault_of("8000", Side::kListen),
            "\"8000\" is not an endpoint: vsock:PORT, vsock:CID:PORT, tcp:ADDRESS:PORT or unix:/PATH");
  EXPECT_EQ(fault_of("http://x", Side::kConnect),
            "\"http://x\" is not an endpoint: tcp:HOST:PORT, vsock:CID:PORT or unix:/PATH");
  EXPECT_EQ(fault_of("vsock:8000", Side::kConnect), "a vsock endpoint to connect to needs a CID: vsock:CID:PORT");
  EXPECT_EQ(fault_of("vsock:4294967295", Side::kListen),
            "\"4294967295\" is not a vsock port, a number up to 4294967294");
  EXPECT_EQ(fault_of("vsock:x:1", Side::kListen), "\"x\" is not a CID, a number up to 4294967294");
  EXPECT_EQ(fault_of("vsock:1:2:3", Side::kListen), "\"2:3\" is not a vsock port, a number up to 4294967294");
  EXPECT_EQ(fault_of("vsock:-1", Side::kListen), "\"-1\" is not a vsock port, a number up to 4294967294");
  EXPECT_EQ(fault_of("tcp:kms.example", Side::kConnect), "the port is missing: tcp:HOST:PORT");
  EXPECT_EQ(fault_of("tcp:2001:db8::1:443", Side::kConnect),
            "an IPv6 address is written in brackets: tcp:[2001:db8::1]:443");
  EXPECT_EQ(fault_of("tcp:[10.0.0]:443", Side::kConnect), "\"[10.0.0]\" is not an IPv6 address in brackets");
  EXPECT_EQ(fault_of("tcp:a b:443", Side::kConnect), "\"a b\" is neither a host name nor an IP address");
  EXPECT_EQ(fault_of("tcp:x:0", Side::kConnect), "\"0\" is not a TCP port, a number from 1 to 65535");
  EXPECT_EQ(fault_of("tcp:x:65536", Side::kConnect), "\"65536\" is not a TCP port, a number from 1 to 65535");
  EXPECT_EQ(fault_of("tcp:x:", Side::kConnect), "\"\" is not a TCP port, a number from 1 to 65535");
  EXPECT_EQ(fault_of("tcp:localhost:80", Side::kListen).find("listening needs an IP address of this machine"), 0U);
  EXPECT_EQ(fault_of("unix:x", Side::kListen), "\"x\" is not an absolute path");
  EXPECT_NE(fault_of("unix:/" + std::string(107, 'a'), Side::kListen).find("longer than 107 bytes"), std::string::npos);
}

}  // namespace
}  // namespace nitro::proxy
