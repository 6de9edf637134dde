// SPDX-License-Identifier: Apache-2.0
#include "eif/image/open.h"

#include "eif/image/digest.h"
#include "eif/image/registry.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

Result<ImageSource> open_in_engine(const Engine& engine, const std::string& name, const SourceOptions& options,
                                   Budget& budget, const Engine::Listener& listener) {
  NITRO_TRY(const auto inspection, engine.inspect(name));
  if (inspection) {
    listener("Using the image that the engine at " + engine.address() + " has");
  } else {
    NITRO_CHECK(engine.pull(name, options.architecture, listener));
  }
  return engine.open(name, options, budget);
}

}  // namespace

Result<ImageSource> open_image(const Reference& reference, const SourceOptions& options, Budget& budget,
                               const Engine::Listener& listener) {
  switch (reference.transport) {
    case Transport::kDockerArchive:
      return open_docker_archive(reference, budget, options);
    case Transport::kOci:
      return open_oci_folder(reference, options, budget);
    case Transport::kOciArchive:
      return open_oci_archive(reference, options, budget);
    case Transport::kRegistry:
      return open_in_registry(reference.name, options, budget, listener);
    case Transport::kDaemon: {
      NITRO_TRY(const auto engine, Engine::find_any());
      return open_in_engine(engine, reference.name, options, budget, listener);
    }
    case Transport::kUnspecified:
      break;
  }
  auto engine = Engine::find();
  if (!engine) {
    // The registry may have a different image under that name, so it is not asked instead of the engine.
    const auto other =
        is_sha256(reference.name) ? "" : " or take the image from its registry: docker://" + reference.name;
    return fail(ErrorCode::kEifBuilding,
                "image " + quote(reference.name) + ": " + engine.error().message() + "; start the engine" + other);
  }
  if (*engine) return open_in_engine(**engine, reference.name, options, budget, listener);
  listener("No container engine is set up; asking the registry");
  return open_in_registry(reference.name, options, budget, listener);
}

}  // namespace nitro::image
