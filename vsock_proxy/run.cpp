// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/run.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/command/program.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/log.h"
#include "src/runtime/program_start.h"
#include "vsock_proxy/forwarding.h"
#include "vsock_proxy/local_enclave.h"
#include "vsock_proxy/options.h"
#include "vsock_proxy/region.h"
#include "vsock_proxy/service/metrics_server.h"
#include "vsock_proxy/service/proxy.h"
#include "vsock_proxy/service_manager.h"

namespace nitro::proxy {
namespace {

constexpr std::chrono::milliseconds kDrainCheck{20};
constexpr std::chrono::seconds kStatusInterval{10};
constexpr std::chrono::seconds kLocalEnclaveCheck{1};

/// The region does not change while an instance runs.
AskRegion asked_once() {
  auto region = std::make_shared<std::string>();
  return [region]() -> Result<std::string> {
    if (region->empty()) {
      NITRO_TRY(*region, instance_region());
    }
    return *region;
  };
}

/// The process: a proxy, its signals, its service manager.
class Process {
 public:
  Process(Options options, Log log) : options_(std::move(options)), log_(std::move(log)), ask_region_(asked_once()) {}

  Result<void> start() {
    auto adopted = service_manager::listening_sockets();
    NITRO_CHECK(block_signals({SIGHUP, SIGINT, SIGTERM, SIGUSR1}));
    NITRO_TRY(loop_, EventLoop::create());
    NITRO_TRY(auto routes, this->routes());
    if (routes.empty()) return fail(ErrorCode::kInvalidArgument, not_allowed_);
    Proxy::Settings settings{.relay_threads = options_.relay_threads,
                             .max_connections = options_.max_connections,
                             .local = {},
                             .resolver = {}};
    if (!options_.local.empty()) {
      NITRO_TRY(settings.local, find_local_enclave(options_.local));
      watch_local_enclave(*settings.local);
    }
    NITRO_TRY(proxy_, Proxy::create(*loop_, log_, std::move(settings)));
    proxy_->adopt(std::move(adopted));
    NITRO_CHECK(proxy_->apply(routes));
    for (const Route& route : routes) SPDLOG_LOGGER_INFO(&*log_, "Bound to {}", route.listen.text());
    if (options_.metrics) {
      NITRO_TRY(metrics_, MetricsServer::open(*loop_, proxy_->counters(), *options_.metrics));
    }
    NITRO_TRY(signals_, loop_->watch_signals({SIGHUP, SIGINT, SIGTERM, SIGUSR1}, [this](int signal) { take(signal); }));
    start_timers();
    SPDLOG_LOGGER_INFO(&*log_, "Proxy is now in listening state");
    service_manager::notify_ready(proxy_->status());
    return {};
  }

  Result<void> run() { return loop_->run(); }

 private:
  /// The routes as the files say now; none if the one service of the command line is not allowed, which is logged.
  Result<std::vector<Route>> routes() {
    if (!options_.service) return load_routes(options_.routes, ask_region_);
    NITRO_TRY(auto route, allowed_route(*options_.service, ask_region_, log_));
    if (auto* allowed = std::get_if<Route>(&route)) return std::vector<Route>{std::move(*allowed)};
    const auto& entry = std::get<AllowedService>(route);
    not_allowed_ = fmt::format(
        "the given address and port are not allowed; this entry in {} would allow them: - {{address: {}, port: {}}}",
        quote(options_.service->allowlist), entry.address, entry.port);
    return std::vector<Route>();
  }

  void start_timers() {
    if (const auto interval = service_manager::watchdog_interval(); interval.count() > 0) {
      watchdog_ = loop_->watch_timer(
          interval / 2,
          [this] {
            if (proxy_->check_alive()) service_manager::notify_alive();
          },
          true);
    }
    status_ = loop_->watch_timer(
        kStatusInterval, [this] { service_manager::notify_status(proxy_->status()); }, true);
  }

  void watch_local_enclave(const LocalEnclave& enclave) {
    local_check_ = loop_->watch_timer(
        kLocalEnclaveCheck,
        [this, folder = enclave.folder] {
          struct stat status {};
          if (::stat(folder.c_str(), &status) == 0 || draining_) return;
          SPDLOG_LOGGER_WARN(&*log_, "The enclave {} has ended", options_.local);
          drain();
        },
        true);
  }

  void take(int signal) {
    if (signal == SIGUSR1) {
      SPDLOG_LOGGER_CRITICAL(&*log_, "{}", proxy_->counters().summary());
    } else if (signal == SIGHUP && reloads_ && !draining_) {
      reload();
    } else if (draining_) {
      SPDLOG_LOGGER_WARN(&*log_, "Ending at once; {} connections are cut off", proxy_->clients());
      loop_->stop();
    } else {
      drain();
    }
  }

  Result<void> apply_routes() {
    NITRO_TRY(auto routes, this->routes());
    // Not allowed any more is not a wrong file: what is forbidden is no longer served.
    if (routes.empty()) SPDLOG_LOGGER_ERROR(&*log_, "{}", not_allowed_);
    return proxy_->apply(std::move(routes));
  }

  void reload() {
    service_manager::notify_reloading();
    const auto applied = apply_routes();
    if (applied) {
      SPDLOG_LOGGER_WARN(&*log_, "The routes of {} are in use: {}",
                         options_.service ? options_.service->allowlist : options_.routes, proxy_->status());
      service_manager::notify_ready(proxy_->status());
    } else {
      SPDLOG_LOGGER_ERROR(&*log_, "{}; the routes stay as they were", applied.error().message());
      service_manager::notify_ready(fmt::format("the new routes are refused: {}", applied.error().message()));
    }
  }

  void drain() {
    draining_ = true;
    proxy_->stop_listening();
    if (proxy_->clients() == 0) return loop_->stop();
    const std::string text =
        fmt::format("Waiting up to {} s for {} connections to end; another signal ends them at once",
                    options_.drain_time.count(), proxy_->clients());
    SPDLOG_LOGGER_WARN(&*log_, "{}", text);
    service_manager::notify_stopping(text);
    drain_limit_ = loop_->watch_timer(options_.drain_time, [this] {
      SPDLOG_LOGGER_WARN(&*log_, "{} connections did not end in time and are cut off", proxy_->clients());
      loop_->stop();
    });
    drain_check_ = loop_->watch_timer(
        kDrainCheck,
        [this] {
          if (proxy_->clients() == 0) loop_->stop();
        },
        true);
  }

  const Options options_;
  Log log_;
  AskRegion ask_region_;
  // At a terminal, the AWS tool's command line ends when that is closed.
  const bool reloads_ = !options_.service || environment_variable("NOTIFY_SOCKET").has_value();
  std::string not_allowed_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Proxy> proxy_;
  std::unique_ptr<MetricsServer> metrics_;
  EventLoop::Watch signals_;
  EventLoop::Watch watchdog_;
  EventLoop::Watch status_;
  EventLoop::Watch local_check_;
  EventLoop::Watch drain_limit_;
  EventLoop::Watch drain_check_;
  bool draining_ = false;
};

/// With --check.
int check_routes(const Options& options) {
  const auto routes = load_routes(options.routes, asked_once());
  if (!routes) return fail_with(routes.error().message());
  for (const Route& route : *routes) {
    std::cout << fmt::format("{}: {} to {}\n", route.name, route.listen.text(),
                             route.connect ? route.connect->text() : "HTTP CONNECT");
  }
  return finish_output();
}

}  // namespace

int run(int argc, char** argv) {
  auto line = parse_options(argc, argv);
  if (!line) return fail_with(line.error().message());
  if (!line->options) {
    (line->printed.status == 0 ? std::cout : std::cerr) << line->printed.text;
    return line->printed.status;
  }
  if (line->options->only_check) return check_routes(*line->options);
  raise_descriptor_limit();
  // With one service, silent but for errors, like the AWS tool.
  Process process(*line->options, Log::to_stderr("vsock_proxy", line->options->service ? "error" : "warn"));
  if (auto started = process.start(); !started) return fail_with(started.error().message());
  if (auto ended = process.run(); !ended) return fail_with(ended.error().message());
  return EXIT_SUCCESS;
}

}  // namespace nitro::proxy
