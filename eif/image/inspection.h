// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "eif/image/image.h"

namespace nitro::image {

/// Which describer the text is to look like.
enum class Describer {
  kEngine,  ///< the engine, where the image comes from one: with what only it knows (when it was tagged, where it lies)
  kImage,   ///< the image alone: the same description on every machine and by every transport, without its names there
};

/// What an engine says of an image ("docker image inspect"), with the keys that the reference keeps of it, sorted.
/// Without an engine, or when the image shall speak for itself, it is what Docker says of this image after loading it:
/// never tagged, no parent.
[[nodiscard]] nlohmann::ordered_json describe_image(const Image& image, Describer describer);

}  // namespace nitro::image
