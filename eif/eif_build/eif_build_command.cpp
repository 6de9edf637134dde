// SPDX-License-Identifier: Apache-2.0
#include "eif/eif_build/eif_build_command.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "eif/kms/open_signer.h"
#include "nitro/eif/writer.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/output_file.h"
#include "src/command/arguments.h"
#include "src/runtime/error_report.h"

namespace nitro::eif {
namespace {

/// The version of the tool whose interface this one implements; recorded in images.
constexpr const char* kToolName = "eif_build";
constexpr const char* kToolVersion = "0.3.1";

/// The exit status for an invalid command line, as in other command-line programs.
constexpr int kUsageStatus = 2;

struct Options {
  std::string kernel;
  std::optional<std::string> kernel_config;
  std::string cmdline;
  std::string output;
  std::vector<std::string> ramdisks;
  std::string signing_certificate;
  std::optional<std::string> private_key;
  std::optional<std::string> image_name;
  std::string image_version = "1.0";
  std::optional<std::string> metadata;
  std::string architecture = "x86_64";
  std::optional<std::string> build_time;
  std::string build_tool = kToolName;
  std::string build_tool_version = kToolVersion;
  std::string operating_system = "OS";
  std::string kernel_version = "kernel";
  std::string algorithm = "sha384";
};

void declare(CLI::App& application, Options& options) {
  application.set_help_flag("-h,--help", "Print help");
  application.add_option("--kernel", options.kernel, "The kernel: bzImage for x86_64, Image for aarch64")
      ->option_text("<FILE>")
      ->required();
  application
      .add_option("--kernel_config", options.kernel_config,
                  "The configuration that the kernel was built with. The image then names the operating system and the "
                  "kernel of "
                  "that file, and this program as its build tool")
      ->option_text("<FILE>");
  application.add_option("--cmdline", options.cmdline, "The kernel's command line")
      ->option_text("<String>")
      ->required();
  application.add_option("--output", options.output, "The file to write")->option_text("<FILE>")->required();
  application
      .add_option("--ramdisk", options.ramdisks, "A ramdisk (cpio, compressed or not); may be given several times")
      ->option_text("<FILE>")
      ->allow_extra_args(false)
      ->required();
  auto* certificate = application.add_option("--signing-certificate", options.signing_certificate,
                                             "A certificate (X.509, PEM), to sign the image with");
  auto* key = application.add_option("--private-key", options.private_key,
                                     "The key of the certificate: a file (PEM), or the ARN of a key in AWS KMS");
  certificate->needs(key);
  key->needs(certificate);
  application.add_option("--name", options.image_name,
                         "The name that the image states [default: the kernel's file name]");
  application.add_option("--version", options.image_version, "The version that the image states")
      ->capture_default_str();
  application.add_option("--metadata", options.metadata, "A JSON file with more metadata, 4096 bytes at most");
  application.add_option("--arch", options.architecture, "The machines that the image is for")
      ->check(CLI::IsMember({"x86_64", "aarch64"}))
      ->capture_default_str();
  application.add_option("--build-time", options.build_time,
                         "The build time that the image states [default: SOURCE_DATE_EPOCH, else now]");
  application.add_option("--build-tool", options.build_tool, "The build tool that the image states")
      ->capture_default_str();
  application.add_option("--build-tool-version", options.build_tool_version, "The version of the build tool")
      ->capture_default_str();
  application.add_option("--img-os", options.operating_system, "The operating system that the image states")
      ->capture_default_str();
  application.add_option("--img-kernel", options.kernel_version, "The kernel's version that the image states")
      ->capture_default_str();
  application.add_option("--algo", options.algorithm, "The hash of the measurements")
      ->check(CLI::IsMember({"sha256", "sha384", "sha512"}))
      ->capture_default_str();
}

Result<Metadata> metadata_of(const Options& options) {
  const std::pair<const char*, std::string> texts[] = {{"--version", options.image_version},
                                                       {"--build-tool", options.build_tool},
                                                       {"--build-tool-version", options.build_tool_version},
                                                       {"--img-os", options.operating_system},
                                                       {"--img-kernel", options.kernel_version},
                                                       {"--build-time", options.build_time.value_or("")}};
  for (const auto& [option, text] : texts) NITRO_CHECK(require_utf8(option, text));
  Metadata metadata;
  metadata.image_name = options.image_name.value_or(std::filesystem::path(options.kernel).filename().string());
  NITRO_CHECK(require_utf8(options.image_name ? "--name" : "the kernel's file name, without --name that of the image,",
                           metadata.image_name));
  metadata.image_version = options.image_version;
  metadata.build = {.build_time = options.build_time.value_or(""),
                    .build_tool = options.build_tool,
                    .build_tool_version = options.build_tool_version,
                    .operating_system = options.operating_system,
                    .kernel_version = options.kernel_version};
  if (options.kernel_config) {
    // As in the reference, except that a given build time is kept: otherwise no such build would be reproducible.
    NITRO_TRY(const KernelIdentity kernel, read_kernel_identity(*options.kernel_config));
    metadata.build.build_tool = kToolName;
    metadata.build.build_tool_version = kToolVersion;
    metadata.build.operating_system = kernel.operating_system;
    metadata.build.kernel_version = kernel.version;
  }
  // Any text is accepted as a time, as in the reference: scripts that pin it write what they like.
  if (!options.build_time) {
    NITRO_TRY(metadata.build.build_time, default_build_time());
  }
  if (options.metadata) {
    NITRO_TRY(metadata.custom, read_custom_metadata(*options.metadata));
  }
  return metadata;
}

Result<Measurements> build(const Options& options, const kms::Environment& environment, std::ostream& err) {
  WriterOptions writer_options;
  if (options.architecture == "aarch64") writer_options.architecture = Architecture::kAarch64;
  if (options.algorithm == "sha256") writer_options.algorithm = HashAlgorithm::kSha256;
  if (options.algorithm == "sha512") writer_options.algorithm = HashAlgorithm::kSha512;
  std::unique_ptr<Signer> signer;
  if (options.private_key) {
    NITRO_TRY(signer, kms::open_signer(*options.private_key, options.signing_certificate, environment));
    err << kms::warning_about(*signer, options.signing_certificate);
    writer_options.signer = signer.get();
  }
  NITRO_TRY(const Metadata metadata, metadata_of(options));
  // Everything is opened before anything is written, so that a mistyped name costs no time.
  NITRO_TRY(const Fd kernel, open_regular_file(options.kernel));
  std::vector<Fd> ramdisks;
  for (const std::string& path : options.ramdisks) {
    NITRO_TRY(Fd ramdisk, open_regular_file(path));
    ramdisks.push_back(std::move(ramdisk));
  }

  NITRO_TRY(OutputFile output, OutputFile::create(options.output));
  NITRO_TRY(Writer writer, Writer::create(output.fd(), writer_options));
  NITRO_CHECK(writer.add_kernel(from_file(kernel.get(), options.kernel)));
  NITRO_CHECK(writer.add_cmdline(options.cmdline));
  NITRO_CHECK(writer.add_metadata(metadata));
  for (std::size_t i = 0; i < ramdisks.size(); ++i) {
    NITRO_CHECK(writer.add_ramdisk(from_file(ramdisks[i].get(), options.ramdisks[i])));
  }
  NITRO_TRY(Measurements measurements, writer.finish());
  NITRO_CHECK(output.commit());
  return measurements;
}

}  // namespace

int run_eif_build(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
                  const kms::Environment& environment) {
  CLI::App application("Makes an enclave image of a kernel, a command line and ramdisks", kToolName);
  Options options;
  declare(application, options);
  try {
    parse_arguments(application, argc, argv);
  } catch (const CLI::ParseError& error) {
    return application.exit(error, out, err) == 0 ? 0 : kUsageStatus;
  }
  const auto measurements = build(options, environment, err);
  if (!measurements) {
    err << report(measurements.error(), "Build EIF", "");
    return exit_status(measurements.error().code());
  }
  out << "Output file: " << options.output << '\n'
      << json_text(to_json(*measurements, AlgorithmSpelling::kEifBuild)) << std::endl;
  if (!out) {
    err << report(Error(ErrorCode::kFileOperation, "the output could not be written"), "Build EIF", "");
    return exit_status(ErrorCode::kFileOperation);
  }
  return 0;
}

}  // namespace nitro::eif
