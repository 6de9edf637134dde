// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "eif/image/daemon.h"
#include "eif/image/source.h"

namespace nitro::image {

/// Opens the image that `reference` names, whatever its transport; an engine that does not have it is told to pull it.
/// `listener` hears what happens. Errors: those of the transports.
Result<ImageSource> open_image(const Reference& reference, const SourceOptions& options,
                               const Engine::Listener& listener);

}  // namespace nitro::image
