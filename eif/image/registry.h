// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "eif/image/daemon.h"
#include "eif/image/source.h"

namespace nitro::image {

/// Fetches an image from its registry (OCI distribution specification), anonymously or with stored credentials. Layers
/// go to scratch files. Uses HTTPS, except that a registry on this machine's loopback may use plain HTTP. Errors:
/// kDockerImagePull when the image is not available; kEifBuilding when the received data has a wrong digest.
Result<ImageSource> open_in_registry(const std::string& name, const SourceOptions& options, Budget& budget,
                                     const Engine::Listener& listener);

/// Whether `host`, with or without a port, is this machine: localhost, 127.0.0.0/8, [::1].
[[nodiscard]] bool is_loopback(std::string_view host);

}  // namespace nitro::image
