// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "eif/image/daemon.h"
#include "eif/image/source.h"

namespace nitro::image {

/// Builds the image that the Dockerfile in `folder` describes, for the architecture of `options`, and opens it. It
/// stays where it was built, under `name`. Uses the engine if one answers, else buildah, else podman, whichever is
/// installed. `listener` receives the builder's messages; kept data is charged to `budget`, which must outlive the
/// image. Errors: kDockerImageBuild, with the builder's reason, when there is no builder or the build fails.
Result<ImageSource> build_image(const std::string& folder, const std::string& name, const SourceOptions& options,
                                Budget& budget, const Engine::Listener& listener);

}  // namespace nitro::image
