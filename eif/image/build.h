// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "eif/image/daemon.h"
#include "eif/image/source.h"

namespace nitro::image {

/// Builds the image that the Dockerfile in `folder` describes, for the architecture of `options`, and opens it. It
/// stays where it was built, under `name`. The engine builds it when one answers; else buildah, else podman, whichever
/// is installed. `listener` hears what the builder says; what is kept is charged to `budget`, which has to outlive the
/// image. Errors: kDockerImageBuild when nobody can build it or building
/// fails, with the builder's reason.
Result<ImageSource> build_image(const std::string& folder, const std::string& name, const SourceOptions& options,
                                Budget& budget, const Engine::Listener& listener);

}  // namespace nitro::image
