// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <sstream>
#include <thread>

#include "src/base/bytes.h"
#include "src/base/number.h"
#include "src/command/arguments.h"

namespace nitro::proxy {
namespace {

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;
constexpr int kUsageStatus = 2;
constexpr unsigned kMostThreadsByDefault = 4;
constexpr const char* kDefaultAllowlist = "/etc/nitro_enclaves/vsock-proxy.yaml";
/// The version of the AWS tool whose interface this is.
constexpr const char* kVersion = "Vsock-TCP proxy 1.0.2";

/// The words of the command line.
struct Words {
  bool ipv4 = false;
  bool ipv6 = false;
  std::optional<std::string> workers;
  std::string allowlist = kDefaultAllowlist;
  std::string local_port;
  std::string remote_host;
  std::string remote_port;
  std::string routes;
  bool check = false;
  std::string local;
  std::string max_connections;
  std::string drain_seconds = "30";
  std::string metrics;
};

template <class Number>
Result<Number> number(const std::string& text, Number min, Number max, std::string_view what) {
  // Rust's parser, whose notation users know, takes a plus sign.
  const auto value = parse_number<Number>(std::string_view(text).substr(text.starts_with('+') ? 1 : 0));
  if (!value || *value < min || *value > max) {
    return fail(kCode, fmt::format("{} must be a number from {} to {}, not {}", what, min, max, quote(text)));
  }
  return *value;
}

void declare(CLI::App& application, Words& words) {
  application.set_version_flag("-V,--version", kVersion, "Print version");
  application.set_help_flag("-h,--help", "Print help");
  auto* ipv4 = application.add_flag("-4,--ipv4", words.ipv4, "Reach the server by IPv4 only");
  application.add_flag("-6,--ipv6", words.ipv6, "Reach the server by IPv6 only")->excludes(ipv4);
  application.add_option("-w,--num_workers", words.workers,
                         "Event loops that move data, at most one for each CPU; no limit of connections "
                         "[default: one for two CPUs, at most 4]");
  application.add_option("--config", words.allowlist,
                         fmt::format("Allowlist of servers, YAML [default: {}]", kDefaultAllowlist));
  application.add_option("local_port", words.local_port, "Vsock port to listen on")->type_name("LOCAL_PORT");
  application
      .add_option("remote_addr", words.remote_host,
                  "Name or IP address of the server; {region} is this instance's region")
      ->type_name("REMOTE_ADDR");
  application.add_option("remote_port", words.remote_port, "TCP port of the server")->type_name("REMOTE_PORT");
  application.add_option("--routes", words.routes,
                         "Serve the routes of this file, instead of one server; see "
                         "vsock-proxy-routes(5)");
  application.add_flag("--check", words.check, "With --routes: check the file, and end");
  application.add_option("--local", words.local, "Serve the local enclave with this name or ID");
  application.add_option("--max-connections", words.max_connections,
                         "Connections at the same time; further clients wait [default: as open files allow]");
  application.add_option("--drain-seconds", words.drain_seconds,
                         "After SIGTERM, time for connections to end by themselves [default: 30]");
  application.add_option("--metrics", words.metrics, "Serve counters at unix:/PATH or tcp:127.0.0.1:PORT");
}

/// Event loops beyond the CPUs only cost. By default half of the CPUs are left to what the bytes come from and go to,
/// the kernel's side of the connections included.
Result<unsigned> relay_threads(const std::optional<std::string>& workers) {
  const unsigned cpus = std::max(std::thread::hardware_concurrency(), 1U);
  if (!workers) return std::clamp(cpus / 2, 1U, kMostThreadsByDefault);
  NITRO_TRY(const auto wanted, number<std::uint32_t>(*workers, 1, UINT32_MAX, "--num_workers"));
  return std::min(wanted, cpus);
}

Result<Options> options_of(const Words& words) {
  Options options;
  if (words.routes.empty()) {
    ForwardedService& service = options.service.emplace();
    NITRO_TRY(service.local_port, number<std::uint32_t>(words.local_port, 0, kMaxVsockPort, "LOCAL_PORT"));
    NITRO_TRY(service.remote_port, number<std::uint16_t>(words.remote_port, 0, UINT16_MAX, "REMOTE_PORT"));
    service.remote_host = words.remote_host;
    service.allowlist = words.allowlist;
    service.family = words.ipv4 ? Family::kV4 : words.ipv6 ? Family::kV6 : Family::kAny;
  }
  NITRO_TRY(options.relay_threads, relay_threads(words.workers));
  options.routes = words.routes;
  options.only_check = words.check;
  options.local = words.local;
  if (!words.max_connections.empty()) {
    NITRO_TRY(options.max_connections,
              number<std::uint32_t>(words.max_connections, 1, 10'000'000, "--max-connections"));
  }
  NITRO_TRY(const auto drain, number<std::uint32_t>(words.drain_seconds, 0, 7 * 24 * 3600, "--drain-seconds"));
  options.drain_time = std::chrono::seconds(drain);
  if (!words.metrics.empty()) {
    auto endpoint = parse_endpoint(words.metrics, Side::kListen);
    if (!endpoint) return fail_within("--metrics", std::move(endpoint).error());
    options.metrics = std::move(*endpoint);
  }
  return options;
}

/// What is missing or too much, or an empty text.
std::string wrong_form(const CLI::App& application, const Words& words) {
  if (words.routes.empty()) {
    if (words.check) return "--check needs --routes";
    for (const char* name : {"local_port", "remote_addr", "remote_port"}) {
      if (application.count(name) == 0)
        return fmt::format("{} is required", application.get_option(name)->get_type_name());
    }
    return {};
  }
  for (const char* name : {"local_port", "--config", "--ipv4", "--ipv6"}) {
    if (application.count(name) == 0) continue;
    return fmt::format("--routes and {} exclude each other: the file says what is served and allowed", name);
  }
  return {};
}

}  // namespace

Result<CommandLine> parse_options(int argc, const char* const* argv) {
  CLI::App application("Lets enclaves reach services of the network through vsock", "vsock-proxy");
  application.get_formatter()->column_width(32);
  Words words;
  declare(application, words);
  CommandLine line;
  std::ostringstream text;
  try {
    parse_arguments(application, argc, argv);
  } catch (const CLI::ParseError& error) {
    line.printed.status = application.exit(error, text, text) == 0 ? 0 : kUsageStatus;
    line.printed.text = text.str();
    return line;
  }
  if (const std::string wrong = wrong_form(application, words); !wrong.empty()) {
    line.printed = {.text = fmt::format("{}\nRun with --help for more information.\n", wrong), .status = kUsageStatus};
    return line;
  }
  NITRO_TRY(line.options, options_of(words));
  return line;
}

}  // namespace nitro::proxy
