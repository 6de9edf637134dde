// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "nitro/result.h"

namespace nitro::cli {

/// The options of `nitro-cli build-enclave`.
struct BuildEnclaveOptions {
  std::string docker_uri;                 ///< name of the image, see eif/image/reference.h
  std::optional<std::string> docker_dir;  ///< first build the image from the Dockerfile in this folder
  std::string output_file;
  std::optional<std::string> signing_certificate;  ///< PEM file; required with private_key
  std::optional<std::string> private_key;
  std::optional<std::string> image_name;     ///< default: the name of the image without its tag
  std::optional<std::string> image_version;  ///< default: the digest of the image's configuration
  std::optional<std::string> metadata_path;  ///< JSON file whose keys are added to the metadata
  std::optional<std::string> build_time;     ///< RFC 3339; default: SOURCE_DATE_EPOCH, else now
  /// "x86_64" or "aarch64"; default: this machine's. Selects the kernel, and the image of a multi-platform one.
  std::optional<std::string> architecture;
};

/// Builds an enclave image from a container image and the kernel, init and NSM driver of the blobs folder. The output
/// file appears once it is complete; otherwise it stays as it was. Progress goes to stderr, {"Measurements": …} to
/// stdout.
///
/// With SOURCE_DATE_EPOCH or `build_time` the build is reproducible: the metadata then omits what only a container
/// engine knows of the image, and what differs between machines.
///
/// Errors: kInvalidArgument for a build time, a name or a version that an image cannot hold; kFileOperation for the
/// command line blob and the output; kDockerImagePull and kDockerImageBuild when there is no container image;
/// kEifBuilding for everything else that is wrong with the parts, including key and certificate.
Result<void> build_enclave(const BuildEnclaveOptions& options);

}  // namespace nitro::cli
