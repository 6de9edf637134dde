// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "eif/kms/environment.h"
#include "nitro/eif/sign.h"
#include "nitro/result.h"

namespace nitro::kms {

/// The signer that the words of --private-key and --signing-certificate stand for: the ARN of a key in AWS KMS, or the
/// path of a key file (eif::load_signer). Whatever can be found wrong is found here, before anything is written: a key
/// in KMS is asked for its public part (kms:GetPublicKey), which has to be the certificate's; sign_digest() then asks
/// for one signature (kms:Sign). Errors: kSigning.
Result<std::unique_ptr<eif::Signer>> open_signer(const std::string& private_key, const std::string& certificate_path,
                                                 const Environment& environment = Environment::of_process());

/// What the user has to be told of a signer before its certificate is published: a line for stderr that names the
/// private keys that lie beside the certificate, or an empty text.
[[nodiscard]] std::string warning_about(const eif::Signer& signer, std::string_view certificate_path);

}  // namespace nitro::kms
