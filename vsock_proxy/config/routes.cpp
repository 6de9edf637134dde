// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "src/base/bytes.h"
#include "src/base/number.h"
#include "src/base/utf8.h"
#include "src/yaml/yaml.h"

namespace nitro::proxy {
namespace {

constexpr std::uint16_t kHttpsPort = 443;
constexpr std::uint64_t kMaxSeconds = std::uint64_t{7} * 24 * 3600;
constexpr std::uint64_t kMaxConnections = 1'000'000;
constexpr std::size_t kMaxNameBytes = 64;

/// Reads the routes of one file.
class Reader {
 public:
  /// Asks for the region at most once.
  explicit Reader(const AskRegion& ask_region)
      : ask_region_([&ask_region, region = std::optional<std::string>()]() mutable -> Result<std::string> {
          if (!region) {
            NITRO_TRY(region, ask_region());
          }
          return *region;
        }) {}

  Result<std::vector<Route>> read(const YamlValue& file) {
    std::vector<Route> routes;
    if (file.is_null()) return file.fault("the file is empty; it needs a list \"routes\"");
    bool found = false;
    auto read = file.for_each_entry({"routes"}, [&](const std::string&, const YamlValue& list) {
      found = true;
      return list.for_each_item([&](const YamlValue& entry) -> Result<void> {
        NITRO_TRY(Route route, this->route(entry));
        NITRO_CHECK(is_new(entry, route));
        routes.push_back(std::move(route));
        return {};
      });
    });
    NITRO_CHECK(std::move(read));
    if (!found) return file.fault("the list \"routes\" is missing");
    if (routes.empty()) return file.fault("there are no routes");
    return routes;
  }

 private:
  Result<Route> route(const YamlValue& entry) {
    Route route;
    bool listens = false;
    const std::map<std::string, std::function<Result<void>(const YamlValue&)>> readers{
        {"name", [&](const YamlValue& value) { return name(value, route.name); }},
        {"listen",
         [&](const YamlValue& value) {
           listens = true;
           return endpoint(value, Side::kListen, route.listen);
         }},
        {"connect", [&](const YamlValue& value) { return endpoint(value, Side::kConnect, route.connect.emplace()); }},
        {"http_connect", [&](const YamlValue& value) { return http_connect(value, route.http_connect); }},
        {"cids", [&](const YamlValue& value) { return cids(value, route.cids); }},
        {"clients", [&](const YamlValue& value) { return blocks(value, route.clients); }},
        {"addresses", [&](const YamlValue& value) { return blocks(value, route.addresses); }},
        {"family", [&](const YamlValue& value) { return family(value, route.family); }},
        {"max_connections",
         [&](const YamlValue& value) -> Result<void> {
           NITRO_TRY(const std::uint64_t number, value.number(1, kMaxConnections));
           route.max_connections = static_cast<std::uint32_t>(number);
           return {};
         }},
        {"connect_seconds", [&](const YamlValue& value) { return seconds(value, 1, route.connect_time); }},
        {"idle_seconds", [&](const YamlValue& value) { return seconds(value, 0, route.idle_time); }},
        {"mode", [&](const YamlValue& value) { return mode(value, route.mode); }},
    };
    std::map<std::string, YamlValue> given;
    auto read = entry.for_each_entry({"name", "listen", "connect", "http_connect", "cids", "clients", "addresses",
                                      "family", "max_connections", "connect_seconds", "idle_seconds", "mode"},
                                     [&](const std::string& key, const YamlValue& value) -> Result<void> {
                                       given.emplace(key, value);
                                       return readers.at(key)(value);
                                     });
    NITRO_CHECK(std::move(read));
    if (!listens) return entry.fault("the route lacks \"listen\", for example listen: vsock:8000");
    if (route.connect.has_value() == given.contains("http_connect")) {
      return entry.fault("a route has either \"connect\" or \"http_connect\"");
    }
    // Keys without a meaning for the route's kind: the file's author expects something that would not happen.
    const bool reaches_tcp = !route.connect || route.connect->kind == Endpoint::Kind::kTcp;
    const std::tuple<const char*, bool, const char*> conditions[] = {
        {"cids", route.listen.kind == Endpoint::Kind::kVsock, "only has a meaning where \"listen\" is vsock"},
        {"clients", route.listen.kind == Endpoint::Kind::kTcp, "only has a meaning where \"listen\" is tcp"},
        {"mode", route.listen.kind == Endpoint::Kind::kUnix, "only has a meaning where \"listen\" is unix"},
        {"addresses", reaches_tcp, "only has a meaning where the server is reached by TCP"},
        {"family", reaches_tcp, "only has a meaning where the server is reached by TCP"},
    };
    for (const auto& [key, meaningful, why] : conditions) {
      if (const auto found = given.find(key); found != given.end() && !meaningful) return found->second.fault(why);
    }
    if (route.name.empty()) route.name = route.listen.text();
    return route;
  }

  Result<void> is_new(const YamlValue& entry, const Route& route) {
    if (!names_.insert(route.name).second) {
      return entry.fault(fmt::format("another route has the name {} too", quote(route.name)));
    }
    if (!listens_.insert(route.listen.text()).second) {
      return entry.fault(fmt::format("another route listens on {} too", route.listen.text()));
    }
    return {};
  }

  static Result<void> name(const YamlValue& value, std::string& name) {
    NITRO_TRY(name, value.text());
    if (name.empty() || name.size() > kMaxNameBytes || !is_plain_text(name)) {
      return value.fault(fmt::format("must be 1 to {} bytes of plain text", kMaxNameBytes));
    }
    return {};
  }

  Result<void> endpoint(const YamlValue& value, Side side, Endpoint& endpoint) {
    NITRO_TRY(std::string text, value.text());
    if (side == Side::kConnect) {
      NITRO_TRY(text, with_region(value, text));
    }
    auto parsed = parse_endpoint(text, side);
    if (!parsed) return value.fault(parsed.error().message());
    endpoint = std::move(*parsed);
    return {};
  }

  Result<void> http_connect(const YamlValue& value, std::vector<HostRule>& rules) {
    auto read = value.for_each_item([&](const YamlValue& item) -> Result<void> {
      HostRule rule;
      bool has_host = false;
      NITRO_CHECK(item.for_each_entry({"host", "ports"}, [&](const std::string& key, const YamlValue& entry) {
        has_host |= key == "host";
        return key == "host" ? host(entry, rule.host) : ports(entry, rule.ports);
      }));
      if (!has_host)
        return item.fault("the entry lacks \"host\", for example {host: \"*.amazonaws.com\", ports: [443]}");
      if (rule.ports.empty()) rule.ports.push_back(kHttpsPort);
      rules.push_back(std::move(rule));
      return {};
    });
    NITRO_CHECK(std::move(read));
    if (rules.empty()) return value.fault("an empty list would refuse every connection");
    return {};
  }

  Result<void> host(const YamlValue& value, HostPattern& pattern) {
    NITRO_TRY(std::string text, value.text());
    NITRO_TRY(text, with_region(value, text));
    const auto parsed = HostPattern::parse(text);
    if (!parsed) {
      return value.fault(fmt::format("{} is neither a host name, nor an IP address, nor \"*.DOMAIN\"", quote(text)));
    }
    pattern = *parsed;
    return {};
  }

  static Result<void> ports(const YamlValue& value, std::vector<std::uint16_t>& ports) {
    auto read = value.for_each_item([&ports](const YamlValue& item) -> Result<void> {
      NITRO_TRY(const std::uint64_t number, item.number(1, kMaxTcpPort));
      ports.push_back(static_cast<std::uint16_t>(number));
      return {};
    });
    NITRO_CHECK(std::move(read));
    if (ports.empty()) return value.fault("an empty list would refuse every connection");
    return {};
  }

  static Result<void> cids(const YamlValue& value, std::vector<std::uint32_t>& cids) {
    auto read = value.for_each_item([&cids](const YamlValue& item) -> Result<void> {
      NITRO_TRY(const std::uint64_t number, item.number(0, kMaxCid));
      cids.push_back(static_cast<std::uint32_t>(number));
      return {};
    });
    NITRO_CHECK(std::move(read));
    if (cids.empty()) return value.fault("an empty list would refuse every client");
    return {};
  }

  static Result<void> blocks(const YamlValue& value, std::vector<AddressBlock>& blocks) {
    auto read = value.for_each_item([&blocks](const YamlValue& item) -> Result<void> {
      NITRO_TRY(const std::string text, item.text());
      const auto block = AddressBlock::parse(text);
      if (!block) {
        return item.fault(
            fmt::format("{} is neither an IP address nor a block such as 10.0.0.0/8, whose bits after the "
                        "prefix are zero",
                        quote(text)));
      }
      blocks.push_back(*block);
      return {};
    });
    NITRO_CHECK(std::move(read));
    if (blocks.empty()) return value.fault("an empty list would refuse everything");
    return {};
  }

  static Result<void> family(const YamlValue& value, Family& family) {
    static const std::map<std::string, Family, std::less<>> kFamilies{{"ipv4", Family::kV4}, {"ipv6", Family::kV6}};
    NITRO_TRY(const std::string text, value.text());
    const auto found = kFamilies.find(text);
    if (found == kFamilies.end()) return value.fault(fmt::format("must be ipv4 or ipv6, not {}", quote(text)));
    family = found->second;
    return {};
  }

  static Result<void> seconds(const YamlValue& value, std::uint64_t min, std::chrono::seconds& seconds) {
    NITRO_TRY(const std::uint64_t number, value.number(min, kMaxSeconds));
    seconds = std::chrono::seconds(number);
    return {};
  }

  static Result<void> mode(const YamlValue& value, unsigned& mode) {
    NITRO_TRY(const std::string text, value.text());
    const auto bits = parse_number<unsigned>(text, 8);
    if (!bits || *bits > 0777) {
      return value.fault(fmt::format("must be permission bits in octal, such as 0660, not {}", quote(text)));
    }
    mode = *bits;
    return {};
  }

  Result<std::string> with_region(const YamlValue& value, std::string text) {
    auto replaced = proxy::with_region(std::move(text), ask_region_);
    if (!replaced) return value.fault(replaced.error().message());
    return replaced;
  }

  const AskRegion ask_region_;
  std::set<std::string> names_;
  std::set<std::string> listens_;
};

}  // namespace

bool is_of(Family family, const IpAddress& address) {
  return family == Family::kAny || (family == Family::kV4) == address.is_v4();
}

bool Route::may_reach(const IpAddress& address) const {
  if (!is_of(family, address)) return false;
  if (addresses.empty()) return connect.has_value() || !address.is_local();
  return std::any_of(addresses.begin(), addresses.end(),
                     [&address](const AddressBlock& block) { return block.contains(address); });
}

bool Route::may_reach(std::string_view host, std::uint16_t port) const {
  return std::any_of(http_connect.begin(), http_connect.end(), [&](const HostRule& rule) {
    return rule.host.matches(host) && std::find(rule.ports.begin(), rule.ports.end(), port) != rule.ports.end();
  });
}

Result<std::string> with_region(std::string host, const AskRegion& ask_region) {
  constexpr std::string_view kPlaceholder = "{region}";
  for (std::size_t at = host.find(kPlaceholder); at != std::string::npos; at = host.find(kPlaceholder)) {
    NITRO_TRY(const std::string region, ask_region());
    host.replace(at, kPlaceholder.size(), region);
  }
  return host;
}

Result<std::vector<Route>> parse_routes(const std::string& text, const std::string& name, const AskRegion& ask_region) {
  NITRO_TRY(const YamlValue file, YamlValue::parse(text, name));
  return Reader(ask_region).read(file);
}

Result<std::vector<Route>> load_routes(const std::string& path, const AskRegion& ask_region) {
  NITRO_TRY(const YamlValue file, YamlValue::load(path));
  return Reader(ask_region).read(file);
}

}  // namespace nitro::proxy
