// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/routes.h"

#include <gtest/gtest.h>

#include "temp_folder.h"

namespace nitro::proxy {
namespace {

Result<std::string> no_region() {
  return fail(ErrorCode::kInvalidArgument, "there is no region here");
}

Result<std::vector<Route>> parse(const std::string& text) {
  return parse_routes(text, "r.yaml", no_region);
}

std::string fault_of(const std::string& text) {
  const auto routes = parse(text);
  return routes ? "it is valid" : routes.error().message();
}

TEST(Routes, SayWhereClientsConnectAndWhereTheyGo) {
  const auto routes = parse(
      "routes:\n"
      "- name: kms\n"
      "  listen: vsock:8000\n"
      "  connect: tcp:kms.eu-central-1.amazonaws.com:443\n"
      "  cids: [16, 17]\n"
      "  family: ipv4\n"
      "  addresses: [10.0.0.0/8, 192.0.2.1]\n"
      "  max_connections: 100\n"
      "  connect_seconds: 5\n"
      "  idle_seconds: 600\n"
      "- listen: unix:/run/app.sock\n"
      "  connect: vsock:16:5000\n"
      "  mode: 0660\n"
      "- listen: tcp:127.0.0.1:8080\n"
      "  clients: [127.0.0.0/8]\n"
      "  http_connect:\n"
      "  - {host: \"*.amazonaws.com\"}\n"
      "  - {host: api.example, ports: [80, 8443]}\n");
  ASSERT_OK(routes);
  ASSERT_EQ(routes->size(), 3U);
  const Route& kms = routes->at(0);
  EXPECT_EQ(kms.name, "kms");
  EXPECT_EQ(kms.listen.text(), "vsock:8000");
  EXPECT_EQ(kms.connect->text(), "tcp:kms.eu-central-1.amazonaws.com:443");
  EXPECT_EQ(kms.cids, (std::vector<std::uint32_t>{16, 17}));
  EXPECT_EQ(kms.family, Family::kV4);
  EXPECT_EQ(kms.max_connections, 100U);
  EXPECT_EQ(kms.connect_time.count(), 5);
  EXPECT_EQ(kms.idle_time.count(), 600);
  EXPECT_EQ(routes->at(1).name, "unix:/run/app.sock");
  EXPECT_EQ(routes->at(1).mode, 0660U);
  EXPECT_EQ(routes->at(1).connect->text(), "vsock:16:5000");
  EXPECT_FALSE(routes->at(2).connect);
  EXPECT_TRUE(routes->at(2).may_reach("kms.amazonaws.com", 443));
  EXPECT_FALSE(routes->at(2).may_reach("kms.amazonaws.com", 80));
  EXPECT_TRUE(routes->at(2).may_reach("api.example", 8443));
  EXPECT_FALSE(routes->at(2).may_reach("api.example", 443));
}

TEST(Routes, LimitTheAddressesOfServers) {
  const auto fixed = parse("routes:\n- {listen: \"vsock:1\", connect: \"tcp:x.example:1\"}\n");
  ASSERT_OK(fixed);
  EXPECT_TRUE(fixed->front().may_reach(*IpAddress::parse("127.0.0.1")));
  const auto chosen = parse("routes:\n- {listen: \"vsock:1\", http_connect: [{host: \"*\"}]}\n");
  ASSERT_OK(chosen);
  EXPECT_TRUE(chosen->front().may_reach(*IpAddress::parse("10.0.0.1")));
  EXPECT_FALSE(chosen->front().may_reach(*IpAddress::parse("127.0.0.1")));
  EXPECT_FALSE(chosen->front().may_reach(*IpAddress::parse("169.254.169.254")));
  const auto listed = parse(
      "routes:\n- {listen: \"vsock:1\", http_connect: [{host: \"*\"}], addresses: [127.0.0.1, \"::/0\"], family: "
      "ipv6}\n");
  ASSERT_OK(listed);
  EXPECT_FALSE(listed->front().may_reach(*IpAddress::parse("127.0.0.1")));
  EXPECT_TRUE(listed->front().may_reach(*IpAddress::parse("::1")));
}

TEST(Routes, HaveTheRegionOfTheInstanceInHosts) {
  int asked = 0;
  const auto region = [&asked]() -> Result<std::string> {
    ++asked;
    return "eu-central-1";
  };
  const auto routes = parse_routes(
      "routes:\n"
      "- listen: vsock:1\n"
      "  connect: tcp:kms.{region}.amazonaws.com:443\n"
      "- listen: vsock:2\n"
      "  http_connect: [{host: \"s3.{region}.amazonaws.com\"}]\n",
      "r.yaml", region);
  ASSERT_OK(routes);
  EXPECT_EQ(routes->at(0).connect->host, "kms.eu-central-1.amazonaws.com");
  EXPECT_EQ(routes->at(1).http_connect.at(0).host.text(), "s3.eu-central-1.amazonaws.com");
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(fault_of("routes:\n- listen: vsock:1\n  connect: tcp:kms.{region}.x:1\n"),
            "r.yaml:3: \"connect\": there is no region here");
}

TEST(Routes, ThatAreWrongAreNamedWithLineAndKey) {
  const std::string begin = "routes:\n- listen: vsock:1\n  connect: tcp:x.example:1\n";
  EXPECT_EQ(fault_of(begin), "it is valid");
  EXPECT_EQ(fault_of(""), "r.yaml: the file is empty; it needs a list \"routes\"");
  EXPECT_EQ(fault_of("routes: []\n"), "r.yaml:1: there are no routes");
  EXPECT_EQ(fault_of("allowlist: []\n"), "r.yaml:1: \"allowlist\": this key is not known here; known keys: routes");
  EXPECT_EQ(fault_of("routes:\n- connect: tcp:x:1\n"),
            "r.yaml:2: \"routes\": the route lacks \"listen\", for example listen: vsock:8000");
  EXPECT_EQ(fault_of("routes:\n- listen: vsock:1\n"),
            "r.yaml:2: \"routes\": a route has either \"connect\" or \"http_connect\"");
  EXPECT_EQ(fault_of(begin + "  http_connect: [{host: x}]\n"),
            "r.yaml:2: \"routes\": a route has either \"connect\" or \"http_connect\"");
  EXPECT_EQ(fault_of(begin + "  conect: 1\n").find("r.yaml:4: \"conect\": this key is not known here"), 0U);
  EXPECT_EQ(fault_of(begin + "  listen: vsock:2\n"), "r.yaml:4: \"listen\": this key is here twice");
  EXPECT_EQ(fault_of(begin + "- listen: vsock:1\n  connect: tcp:y:1\n  name: y\n"),
            "r.yaml:4: \"routes\": another route listens on vsock:1 too");
  EXPECT_EQ(fault_of(begin + "  name: a\n- listen: vsock:2\n  connect: tcp:y:1\n  name: a\n"),
            "r.yaml:5: \"routes\": another route has the name \"a\" too");
  EXPECT_EQ(fault_of(begin + "  clients: [10.0.0.0/8]\n"),
            "r.yaml:4: \"clients\": only has a meaning where \"listen\" is tcp");
  EXPECT_EQ(fault_of(begin + "  mode: 0600\n"), "r.yaml:4: \"mode\": only has a meaning where \"listen\" is unix");
  EXPECT_EQ(fault_of("routes:\n- listen: unix:/a\n  connect: vsock:3:4\n  family: ipv4\n"),
            "r.yaml:4: \"family\": only has a meaning where the server is reached by TCP");
  EXPECT_EQ(fault_of(begin + "  addresses: [10.1.2.3/8]\n").find("r.yaml:4: \"addresses\": \"10.1.2.3/8\" is neither"),
            0U);
  EXPECT_EQ(fault_of(begin + "  cids: []\n"), "r.yaml:4: \"cids\": an empty list would refuse every client");
  EXPECT_EQ(fault_of(begin + "  cids: 16\n"), "r.yaml:4: \"cids\": must be a list");
  EXPECT_EQ(fault_of(begin + "  family: ip\n"), "r.yaml:4: \"family\": must be ipv4 or ipv6, not \"ip\"");
  EXPECT_EQ(fault_of(begin + "  max_connections: 0\n"),
            "r.yaml:4: \"max_connections\": must be a whole number from 1 to 1000000, not \"0\"");
  EXPECT_EQ(fault_of(begin + "  name: \"\"\n"), "r.yaml:4: \"name\": must be 1 to 64 bytes of plain text");
  EXPECT_EQ(fault_of("routes:\n- listen: unix:/a\n  connect: unix:/b\n  mode: 0999\n"),
            "r.yaml:4: \"mode\": must be permission bits in octal, such as 0660, not \"0999\"");
  EXPECT_EQ(fault_of("routes:\n- listen: vsock:1\n  http_connect: [{ports: [1]}]\n")
                .find("r.yaml:3: \"http_connect\": the entry lacks \"host\""),
            0U);
  EXPECT_EQ(fault_of("routes:\n- listen: vsock:1\n  http_connect: [{host: a.*}]\n"),
            "r.yaml:3: \"host\": \"a.*\" is neither a host name, nor an IP address, nor \"*.DOMAIN\"");
  EXPECT_EQ(fault_of("routes:\n- listen: vsock:1\n  http_connect: [{host: a, ports: [0]}]\n"),
            "r.yaml:3: \"ports\": must be a whole number from 1 to 65535, not \"0\"");
}

}  // namespace
}  // namespace nitro::proxy
