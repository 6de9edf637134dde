// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/counters.h"

#include <gtest/gtest.h>

namespace nitro::proxy {
namespace {

TEST(Counters, AreWrittenForPrometheus) {
  Counters counters;
  const auto route = counters.of_route("a \"quoted\" \\ route");
  const auto client = route->of_client(16);
  client->open = 2;
  client->total = 5;
  client->traffic.to_server = 100;
  client->traffic.to_client = 1'000'000'000'000;
  route->refuse(Refusal::kHost);
  route->connect_times().add(std::chrono::milliseconds(3));
  route->connect_times().add(std::chrono::seconds(60));
  const std::string text = counters.prometheus();
  const std::string name = "route=\"a \\\"quoted\\\" \\\\ route\"";
  for (const std::string& line :
       {"vsock_proxy_connections_open{" + name + ",cid=\"16\"} 2\n",
        "vsock_proxy_connections_total{" + name + ",cid=\"16\"} 5\n",
        "vsock_proxy_bytes_total{" + name + ",cid=\"16\",direction=\"to_server\"} 100\n",
        "vsock_proxy_bytes_total{" + name + ",cid=\"16\",direction=\"to_client\"} 1000000000000\n",
        "vsock_proxy_refused_total{" + name + ",reason=\"host\"} 1\n",
        "vsock_proxy_refused_total{" + name + ",reason=\"client\"} 0\n",
        "vsock_proxy_connect_seconds_bucket{" + name + ",le=\"0.0025\"} 0\n",
        "vsock_proxy_connect_seconds_bucket{" + name + ",le=\"0.005\"} 1\n",
        "vsock_proxy_connect_seconds_bucket{" + name + ",le=\"5\"} 1\n",
        "vsock_proxy_connect_seconds_bucket{" + name + ",le=\"+Inf\"} 2\n",
        "vsock_proxy_connect_seconds_count{" + name + "} 2\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
  EXPECT_EQ(counters.summary(),
            "a \"quoted\" \\ route: 2 open, 5 in all, 1 refused, 100 bytes to the server, "
            "1000000000000 to clients");
}

TEST(Counters, CountManyCidsTogether) {
  RouteCounters route;
  for (std::uint32_t cid = 0; cid < 2 * RouteCounters::kMaxCids; ++cid) route.of_client(cid)->open = 1;
  EXPECT_EQ(route.of_client(5'000'000), route.of_client(6'000'000));
  EXPECT_NE(route.of_client(1), route.of_client(2));
  EXPECT_EQ(route.open(), RouteCounters::kMaxCids + 1);
}

TEST(Counters, OfARouteGoOn) {
  Counters counters;
  EXPECT_EQ(counters.of_route("a"), counters.of_route("a"));
  EXPECT_NE(counters.of_route("a"), counters.of_route("b"));
}

}  // namespace
}  // namespace nitro::proxy
