// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "eif/image/image.h"

namespace nitro::image {

/// Whose description to imitate.
enum class Describer {
  kEngine,  ///< the engine, if the image comes from one: includes what only it knows (time of tagging, location)
  kImage,   ///< the image alone: the same on every machine and for every transport, without names given there
};

/// Describes an image like an engine ("docker image inspect"), with the keys that the reference keeps, sorted. Without
/// an engine, or for Describer::kImage, it is Docker's description of this image after loading it: never tagged, no
/// parent.
[[nodiscard]] nlohmann::ordered_json describe_image(const Image& image, Describer describer);

}  // namespace nitro::image
