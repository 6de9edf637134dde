// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "eif/kms/environment.h"
#include "nitro/eif/sign.h"
#include "nitro/result.h"

namespace nitro::kms {

/// Opens the signer given by --private-key and --signing-certificate: the ARN of a key in AWS KMS, or the path of a key
/// file (eif::load_signer). All checks happen here, before anything is written: the public part of a KMS key
/// (kms:GetPublicKey) must match the certificate; sign_digest() then requests one signature (kms:Sign). Errors:
/// kSigning.
Result<std::unique_ptr<eif::Signer>> open_signer(const std::string& private_key, const std::string& certificate_path,
                                                 const Environment& environment = Environment::of_process());

/// Returns a warning for the user before a signer's certificate is published: a line for stderr that names the private
/// keys found beside the certificate, or an empty text.
[[nodiscard]] std::string warning_about(const eif::Signer& signer, std::string_view certificate_path);

}  // namespace nitro::kms
