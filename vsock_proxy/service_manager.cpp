// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service_manager.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include "src/base/utf8.h"

namespace nitro::proxy::service_manager {
namespace {

void notify(const std::string& message) {
  // A manager that cannot be told must not end a service.
  ::sd_notify(0, message.c_str());
}

std::int64_t monotonic_microseconds() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::vector<Fd> listening_sockets() {
  std::vector<Fd> sockets;
  const int count = ::sd_listen_fds(1);
  for (int i = 0; i < count; ++i) sockets.emplace_back(SD_LISTEN_FDS_START + i);
  return sockets;
}

std::chrono::microseconds watchdog_interval() {
  std::uint64_t interval = 0;
  return std::chrono::microseconds(::sd_watchdog_enabled(0, &interval) > 0 ? interval : 0);
}

void notify_ready(const std::string& status) {
  notify(fmt::format("READY=1\nSTATUS={}", escaped(status)));
}

void notify_reloading() {
  // The time is required for Type=notify-reload.
  notify(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()));
}

void notify_stopping(const std::string& status) {
  notify(fmt::format("STOPPING=1\nSTATUS={}", escaped(status)));
}

void notify_status(const std::string& status) {
  notify(fmt::format("STATUS={}", escaped(status)));
}

void notify_alive() {
  notify("WATCHDOG=1");
}

}  // namespace nitro::proxy::service_manager
