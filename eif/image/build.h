// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "eif/image/daemon.h"
#include "eif/image/source.h"

namespace nitro::image {

/// Builds the image that the Dockerfile in `folder` describes and opens it. It stays where it was built, under `name`.
/// The engine builds it when one answers; else buildah, else podman, whichever is installed. `listener` hears what the
/// builder says. Errors: kDockerImageBuild when nobody can build it or building fails, with the builder's reason.
Result<ImageSource> build_image(const std::string& folder, const std::string& name, const Engine::Listener& listener);

/// Everything in `folder` as a tar archive (pax) in an unnamed file, names relative to the folder; symbolic links as
/// such. Errors: kDockerImageBuild, naming the file that cannot be read.
Result<Extent> pack_folder(const std::string& folder);

}  // namespace nitro::image
