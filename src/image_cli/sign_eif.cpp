// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>

#include "eif/kms/open_signer.h"
#include "nitro/eif/sign.h"
#include "src/command/image_commands.h"
#include "src/command/output.h"
#include "src/image_cli/commands.h"

namespace nitro::cli {
namespace {

struct Options {
  std::optional<std::string> eif_path;
  std::string signing_certificate;
  std::optional<std::string> private_key;
};

Result<void> sign_eif(const Options& options) {
  if (!options.eif_path) return fail(ErrorCode::kMissingArgument, "--eif-path is missing");
  if (!options.private_key) return fail(ErrorCode::kSigning, "--private-key and --signing-certificate are missing");
  NITRO_TRY(const auto signer, kms::open_signer(*options.private_key, options.signing_certificate));
  std::cerr << kms::warning_about(*signer, options.signing_certificate);
  auto measurements = eif::sign_image(*options.eif_path, *signer);
  // Scripts expect a single code for anything that prevents signing.
  if (!measurements) return Failure(std::move(measurements).error().as(ErrorCode::kSigning));
  std::cerr << "Enclave Image successfully signed.\n";
  print_json(std::cout, build_info_json(*measurements));
  return {};
}

}  // namespace

void add_sign_eif(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand(kSignEif.name, kSignEif.description);
  auto options = std::make_shared<Options>();
  command->add_option("--eif-path", options->eif_path, "The enclave image file");
  auto* certificate =
      command->add_option("--signing-certificate", options->signing_certificate, "A certificate (X.509, PEM)");
  auto* key = command->add_option("--private-key", options->private_key,
                                  "The key of the certificate: a file (PEM), or the ARN of a key in AWS KMS");
  certificate->needs(key);
  key->needs(certificate);
  command->callback([&chosen, options] {
    chosen = {.action = "Sign EIF", .run = [options](Context&) { return sign_eif(*options); }, .holds_secrets = true};
  });
}

}  // namespace nitro::cli
