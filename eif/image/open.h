// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "eif/image/daemon.h"
#include "eif/image/source.h"

namespace nitro::image {

/// Opens the image that `reference` names, whatever its transport; an engine that does not have it is told to pull it.
/// A name without a prefix is the engine's, and only where no engine is set up (Engine::find()) the registry's.
/// `listener` hears what happens; what is kept is charged to `budget`, which has to outlive the image. Errors: those of
/// the transports; kEifBuilding, as the reference has it, when an engine is set up and does not answer.
Result<ImageSource> open_image(const Reference& reference, const SourceOptions& options, Budget& budget,
                               const Engine::Listener& listener);

}  // namespace nitro::image
