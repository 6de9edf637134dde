// SPDX-License-Identifier: Apache-2.0
#include "src/image_cli/build_enclave.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "eif/image/build.h"
#include "eif/image/image.h"
#include "eif/image/inspection.h"
#include "eif/image/open.h"
#include "eif/image/ramdisk.h"
#include "eif/image/surprises.h"
#include "eif/kms/open_signer.h"
#include "nitro/eif/writer.h"
#include "src/base/bytes.h"
#include "src/base/json.h"
#include "src/base/output_file.h"
#include "src/base/text.h"
#include "src/base/version.h"
#include "src/command/image_commands.h"
#include "src/command/output.h"
#include "src/command/progress.h"
#include "src/image_cli/commands.h"
#include "src/runtime/directories.h"

namespace nitro::cli {

namespace {

constexpr const char* kBuildTool = "nitro-cli";

// The differences between the two architectures of machines that run enclaves.
struct Platform {
  const char* name;            // as in uname(2)
  const char* container_name;  // as in container images
  const char* kernel;          // file in the blobs folder
  eif::Architecture architecture;
};
constexpr Platform kX86_64{"x86_64", "amd64", "bzImage", eif::Architecture::kX86_64};
constexpr Platform kAarch64{"aarch64", "arm64", "Image", eif::Architecture::kAarch64};

Result<Platform> choose_platform(const std::optional<std::string>& architecture) {
  std::string name = architecture.value_or("");
  if (!architecture) {
    utsname system{};
    if (::uname(&system) != 0) return fail_errno(ErrorCode::kUnspecified, "asking for this machine's architecture");
    name = system.machine;
  }
  for (const auto& platform : {kX86_64, kAarch64}) {
    if (name == platform.name || name == platform.container_name) return platform;
  }
  return fail(ErrorCode::kEifBuilding,
              "there are no enclaves for the architecture " + quote(name) + "; choose x86_64 or aarch64");
}

// The parts of an enclave that the user does not provide.
struct Blobs {
  std::string command_line;
  eif::KernelIdentity kernel_identity;
  image::Extent kernel;
  image::Extent init;
  std::optional<image::Extent> nsm_module;
};

Result<Blobs> open_blobs(const Platform& platform) {
  const auto folder = blobs_folder();
  Blobs blobs;
  auto command_line = read_text_file(folder + "/cmdline");
  if (!command_line) {
    // The first blob to be read: if it is missing, most likely all of them are.
    return fail_within("reading the kernel command line (NITRO_CLI_BLOBS names the folder that build-blobs makes)",
                       std::move(command_line).error());
  }
  blobs.command_line = trimmed(*command_line);

  const auto kernel = folder + "/" + platform.kernel;
  auto identity = eif::read_kernel_identity(kernel + ".config");
  if (!identity)
    return fail_within("reading the kernel's configuration", std::move(identity).error().as(ErrorCode::kEifBuilding));
  blobs.kernel_identity = *std::move(identity);

  const auto open = [](const std::string& path, const char* what) -> Result<image::Extent> {
    auto blob = image::open_extent(path);
    if (!blob) return fail_within(std::string("opening ") + what, std::move(blob).error().as(ErrorCode::kEifBuilding));
    return blob;
  };
  NITRO_TRY(blobs.init, open(folder + "/init", "the init program"));
  // Kernels from 6.8 on have the driver built in; then there is no such file.
  const auto nsm = folder + "/nsm.ko";
  if (::access(nsm.c_str(), F_OK) == 0) {
    NITRO_TRY(blobs.nsm_module, open(nsm, "the NSM driver"));
  }
  NITRO_TRY(blobs.kernel, open(kernel, "the kernel"));
  return blobs;
}

// Errors that prevent signing during a build have the code of building in the AWS tools; kSigning is for sign-eif.
Error as_building(Error error) {
  return error.code() == ErrorCode::kSigning ? std::move(error).as(ErrorCode::kEifBuilding) : error;
}

Result<std::unique_ptr<eif::Signer>> open_signer(const BuildEnclaveOptions& options) {
  if (options.signing_certificate.has_value() != options.private_key.has_value()) {
    return fail(ErrorCode::kEifBuilding, "signing takes both a certificate and a private key; one of them is missing");
  }
  if (!options.private_key) return std::unique_ptr<eif::Signer>();
  auto signer = kms::open_signer(*options.private_key, *options.signing_certificate);
  if (!signer) return Failure(as_building(std::move(signer).error()));
  std::fputs(kms::warning_about(**signer, *options.signing_certificate).c_str(), stderr);
  return signer;
}

bool is_reproducible(const BuildEnclaveOptions& options) {
  return options.build_time || std::getenv("SOURCE_DATE_EPOCH") != nullptr;
}

// Returns "golden/tiny" for "golden/tiny:1". For archives and layouts, the name of the image inside, or else of the
// file.
std::string default_name(const image::Reference& reference, const image::ImageSource& source) {
  if (reference.path.empty()) return std::string(image::without_tag(reference.name));
  if (!source.repository_tags.empty()) return std::string(image::without_tag(source.repository_tags.front()));
  auto path = reference.path;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

// The user's part of the metadata. Checked first, so that a mistake costs no time.
Result<eif::Metadata> given_metadata(const BuildEnclaveOptions& options) {
  eif::Metadata metadata;
  NITRO_TRY(metadata.build.build_time, eif::build_time_or_default(options.build_time));
  metadata.image_name = options.image_name.value_or("");
  NITRO_CHECK(eif::require_utf8("--name", metadata.image_name));
  metadata.image_version = options.image_version.value_or("");
  NITRO_CHECK(eif::require_utf8("--version", metadata.image_version));
  if (options.metadata_path) {
    auto custom = eif::read_custom_metadata(*options.metadata_path);
    if (!custom) return fail_within("reading the metadata", std::move(custom).error().as(ErrorCode::kEifBuilding));
    metadata.custom = *std::move(custom);
  }
  return metadata;
}

// Completes `metadata` with what is known of the parts.
Result<eif::Metadata> complete_metadata(eif::Metadata metadata, const BuildEnclaveOptions& options, const Blobs& blobs,
                                        const image::Reference& reference, const image::Image& image) {
  if (!options.image_name) {
    metadata.image_name = default_name(reference, image.source());
    NITRO_CHECK(eif::require_utf8("the file name, which without --name is the image's,", metadata.image_name));
  }
  metadata.build.build_tool = kBuildTool;
  metadata.build.build_tool_version = kVersion;
  metadata.build.operating_system = blobs.kernel_identity.operating_system;
  metadata.build.kernel_version = blobs.kernel_identity.version;
  metadata.docker_info =
      image::describe_image(image, is_reproducible(options) ? image::Describer::kImage : image::Describer::kEngine);
  // The reference's version is the engine's ID of the image: usually, but not with every store, the digest of its
  // configuration.
  auto id = text_at(metadata.docker_info, "Id");
  if (id.empty()) id = image.source().id;
  if (!options.image_version) metadata.image_version = id.substr(id.find(':') + 1);
  return metadata;
}

Result<image::ImageSource> build_container_image(const std::string& folder, const image::Reference& reference,
                                                 const image::SourceOptions& source_options, image::Budget& budget,
                                                 const image::Engine::Listener& listener) {
  if (reference.transport != image::Transport::kUnspecified && reference.transport != image::Transport::kDaemon) {
    return fail(ErrorCode::kDockerImageBuild,
                "an image that is built from a folder needs a plain name, such as \"app:1\"");
  }
  return image::build_image(folder, reference.name, source_options, budget, listener);
}

Result<void> check_architecture(const image::Image& image, const Platform& platform) {
  const auto& architecture = image.config().architecture;
  if (architecture == platform.container_name) return {};
  return fail(ErrorCode::kEifBuilding, "the container image is for " + quote(architecture) +
                                           ", but the enclave's kernel is for " + platform.container_name +
                                           "; build the container image for linux/" + platform.container_name);
}

Result<eif::Measurements> write_image(int fd, const Platform& platform, const Blobs& blobs,
                                      const eif::Metadata& metadata, const eif::Signer* signer,
                                      const image::Image& image, Progress& progress) {
  eif::WriterOptions writer_options;
  writer_options.architecture = platform.architecture;
  writer_options.signer = signer;
  NITRO_TRY(auto writer, eif::Writer::create(fd, writer_options));
  NITRO_CHECK(writer.add_kernel([&blobs](const ByteSink& sink) { return blobs.kernel.read_all(sink); }));
  NITRO_CHECK(writer.add_cmdline(blobs.command_line));
  NITRO_CHECK(writer.add_metadata(metadata));
  NITRO_CHECK(writer.add_ramdisk(
      [&blobs](const ByteSink& sink) { return image::write_bootstrap_ramdisk(blobs.init, blobs.nsm_module, sink); }));
  const auto count = [&progress](std::uint64_t bytes) { progress.count("Writing the ramdisk:", bytes); };
  if (image.is_compressed()) {
    NITRO_CHECK(writer.add_ramdisk_in_place(
        [&](int output, std::uint64_t offset) { return image.place_ramdisk(output, offset, count); }));
  } else {
    NITRO_CHECK(writer.add_ramdisk([&](const ByteSink& sink) {
      return image.write_ramdisk([&](std::span<const std::byte> bytes) {
        count(bytes.size());
        return sink(bytes);
      });
    }));
  }
  return writer.finish();
}

}  // namespace

Result<void> build_enclave(const BuildEnclaveOptions& options) {
  std::fputs("Start building the enclave image...\n", stderr);
  NITRO_TRY(const auto platform, choose_platform(options.architecture));
  NITRO_TRY(const auto reference, image::parse_reference(options.docker_uri));
  NITRO_TRY(auto given, given_metadata(options));
  NITRO_TRY(auto output, OutputFile::create(options.output_file));
  NITRO_TRY(const auto blobs, open_blobs(platform));
  NITRO_TRY(const auto signer, open_signer(options));

  Progress progress;
  const auto listener = [&progress](std::string_view line) { progress.show(line); };
  const image::SourceOptions source_options{platform.container_name};
  image::Budget budget;
  NITRO_TRY(auto source, options.docker_dir
                             ? build_container_image(*options.docker_dir, reference, source_options, budget, listener)
                             : image::open_image(reference, source_options, budget, listener));
  const auto name = source.name;
  progress.show("Reading the container image");
  auto loaded = image::Image::load(std::move(source), budget);
  if (!loaded) return fail_within("container image " + quote(name), std::move(loaded).error());
  NITRO_CHECK(check_architecture(*loaded, platform));
  progress.show("");
  for (const auto& surprise :
       image::surprises_in(loaded->config(), [&loaded](const auto& path) { return loaded->has_file(path); })) {
    std::fprintf(stderr, "Note: %s.\n", surprise.c_str());
  }
  const auto metadata = complete_metadata(std::move(given), options, blobs, reference, *loaded);
  if (!metadata) return fail_within("building the enclave image from " + quote(name), metadata.error());

  auto written = write_image(output.fd(), platform, blobs, *metadata, signer.get(), *loaded, progress);
  if (!written) {
    return fail_within("building the enclave image from " + quote(name), as_building(std::move(written).error()));
  }
  progress.show("Saving " + options.output_file);
  NITRO_CHECK(output.commit());
  progress.show("");

  std::fputs("The enclave image is complete.\n", stderr);
  print_json(std::cout, build_info_json(*written));
  return {};
}

void add_build_enclave(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand(kBuildEnclave.name, kBuildEnclave.description);
  auto options = std::make_shared<BuildEnclaveOptions>();
  command
      ->add_option(
          "--docker-uri", options->docker_uri,
          "Name of the container image: of the container daemon's, or docker-daemon:NAME, docker-archive:PATH[:NAME], "
          "oci:FOLDER[:NAME], oci-archive:PATH[:NAME], docker://HOST/NAME. With --docker-dir: the name for the new "
          "image")
      ->required();
  command->add_option("--docker-dir", options->docker_dir,
                      "A folder with a Dockerfile from which to build the container image first");
  command->add_option("--output-file", options->output_file, "The file to write; /dev/null for the measurements only")
      ->required();
  auto* certificate = command->add_option("--signing-certificate", options->signing_certificate,
                                          "A certificate (X.509, PEM), to sign the image with");
  auto* key = command->add_option("--private-key", options->private_key,
                                  "The key of the certificate: a file (PEM), or the ARN of a key in AWS KMS");
  certificate->needs(key);
  key->needs(certificate);
  command->add_option("--name", options->image_name,
                      "Name to store in the image. Default: that of the container image");
  command->add_option("--version", options->image_version,
                      "Version to store in the image. Default: the digest of the container image's configuration");
  command->add_option("--metadata", options->metadata_path, "A JSON file with more metadata, at most 4096 bytes");
  command->add_option("--build-time", options->build_time,
                      "Build time to store in the image (RFC 3339), for reproducible builds");
  command->add_option("--arch", options->architecture, "x86_64 or aarch64; default: this machine's")
      ->check(CLI::IsMember({"x86_64", "aarch64"}));
  command->callback([&chosen, options] {
    chosen = {.action = "Build Enclave",
              .run = [options](Context&) { return build_enclave(*options); },
              .holds_secrets = true};
  });
}

}  // namespace nitro::cli
