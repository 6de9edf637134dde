// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/counters.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace nitro::proxy {
namespace {

constexpr std::array<std::string_view, kRefusals> kRefusalNames{"client",  "request", "host",       "address",
                                                                "resolve", "connect", "descriptors"};

/// The value of a label: backslash, quote and line feed are escaped.
std::string label(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\' || c == '"') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

void begin_metric(std::string& text, std::string_view name, std::string_view type, std::string_view help) {
  text += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

}  // namespace

std::string_view name_of(Refusal refusal) {
  return kRefusalNames.at(static_cast<std::size_t>(refusal));
}

void ConnectTimes::add(std::chrono::nanoseconds time) {
  const double seconds = std::chrono::duration<double>(time).count();
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  ++buckets.at(static_cast<std::size_t>(bucket));
  sum_seconds += seconds;
}

std::shared_ptr<ClientCounters> RouteCounters::of_client(std::optional<std::uint32_t> cid) {
  std::string key = cid ? std::to_string(*cid) : "";
  if (clients_.size() >= kMaxCids && !clients_.contains(key)) key = "other";
  auto& client = clients_[key];
  if (client == nullptr) client = std::make_shared<ClientCounters>();
  return client;
}

std::uint64_t RouteCounters::open() const {
  std::uint64_t open = 0;
  for (const auto& [cid, client] : clients_) open += client->open;
  return open;
}

std::shared_ptr<RouteCounters> Counters::of_route(const std::string& name) {
  auto& route = routes_[name];
  if (route == nullptr) route = std::make_shared<RouteCounters>();
  return route;
}

std::string Counters::prometheus() const {
  std::string text;
  const auto for_each_client = [&](const std::function<void(const std::string& labels, const ClientCounters&)>& visit) {
    for (const auto& [name, route] : routes_) {
      for (const auto& [cid, client] : route->clients_) {
        visit(fmt::format("route=\"{}\",cid=\"{}\"", label(name), cid), *client);
      }
    }
  };
  begin_metric(text, "vsock_proxy_connections_open", "gauge", "Connections that are open now.");
  for_each_client([&text](const std::string& labels, const ClientCounters& client) {
    text += fmt::format("vsock_proxy_connections_open{{{}}} {}\n", labels, client.open.load());
  });
  begin_metric(text, "vsock_proxy_connections_total", "counter", "Connections that were made to servers.");
  for_each_client([&text](const std::string& labels, const ClientCounters& client) {
    text += fmt::format("vsock_proxy_connections_total{{{}}} {}\n", labels, client.total.load());
  });
  begin_metric(text, "vsock_proxy_bytes_total", "counter", "Bytes that were relayed, by direction.");
  for_each_client([&text](const std::string& labels, const ClientCounters& client) {
    text += fmt::format("vsock_proxy_bytes_total{{{},direction=\"to_server\"}} {}\n", labels,
                        client.traffic.to_server.load());
    text += fmt::format("vsock_proxy_bytes_total{{{},direction=\"to_client\"}} {}\n", labels,
                        client.traffic.to_client.load());
  });
  begin_metric(text, "vsock_proxy_refused_total", "counter", "Clients that got no connection, by reason.");
  for (const auto& [name, route] : routes_) {
    for (std::size_t i = 0; i < kRefusals; ++i) {
      text += fmt::format("vsock_proxy_refused_total{{route=\"{}\",reason=\"{}\"}} {}\n", label(name),
                          kRefusalNames.at(i), route->refused_.at(i));
    }
  }
  begin_metric(text, "vsock_proxy_connect_seconds", "histogram", "Time to connect to servers, names included.");
  for (const auto& [name, route] : routes_) {
    const ConnectTimes& times = route->connect_times_;
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < times.buckets.size(); ++i) {
      count += times.buckets.at(i);
      const std::string bound =
          i < ConnectTimes::kBounds.size() ? fmt::format("{}", ConnectTimes::kBounds.at(i)) : "+Inf";
      text +=
          fmt::format("vsock_proxy_connect_seconds_bucket{{route=\"{}\",le=\"{}\"}} {}\n", label(name), bound, count);
    }
    text += fmt::format("vsock_proxy_connect_seconds_sum{{route=\"{}\"}} {}\n", label(name), times.sum_seconds);
    text += fmt::format("vsock_proxy_connect_seconds_count{{route=\"{}\"}} {}\n", label(name), count);
  }
  return text;
}

std::string Counters::summary() const {
  std::string text;
  for (const auto& [name, route] : routes_) {
    std::uint64_t total = 0;
    std::uint64_t to_server = 0;
    std::uint64_t to_client = 0;
    for (const auto& [cid, client] : route->clients_) {
      total += client->total;
      to_server += client->traffic.to_server;
      to_client += client->traffic.to_client;
    }
    std::uint64_t refused = 0;
    for (const std::uint64_t count : route->refused_) refused += count;
    text += fmt::format("{}{}: {} open, {} in all, {} refused, {} bytes to the server, {} to clients",
                        text.empty() ? "" : "; ", name, route->open(), total, refused, to_server, to_client);
  }
  return text.empty() ? "no routes" : text;
}

}  // namespace nitro::proxy
