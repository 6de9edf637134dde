// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "nitro/fd.h"

/// The service manager that started this process (systemd: sd_notify(3), sd_listen_fds(3)). Without one, nothing
/// happens.
namespace nitro::proxy::service_manager {

/// The sockets that it passed on; call it once, before anything else opens descriptors.
[[nodiscard]] std::vector<Fd> listening_sockets();
/// How often it wants to hear from us; 0: it does not.
[[nodiscard]] std::chrono::microseconds watchdog_interval();

void notify_ready(const std::string& status);
void notify_reloading();
void notify_stopping(const std::string& status);
void notify_status(const std::string& status);
void notify_alive();

}  // namespace nitro::proxy::service_manager
