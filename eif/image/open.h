// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "eif/image/daemon.h"
#include "eif/image/source.h"

namespace nitro::image {

/// Opens the image that `reference` names, whatever its transport; an engine that does not have it is told to pull it.
/// A name without a prefix means the engine, or the registry if no engine is set up (Engine::find()). `listener`
/// receives progress messages; kept data is charged to `budget`, which must outlive the image. Errors: those of the
/// transports; kEifBuilding, as in the reference, when an engine is set up but does not answer.
Result<ImageSource> open_image(const Reference& reference, const SourceOptions& options, Budget& budget,
                               const Engine::Listener& listener);

}  // namespace nitro::image
