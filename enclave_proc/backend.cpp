// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/backend.h"

#include <utility>

#include "enclave_proc/local_enclave.h"
#include "enclave_proc/nitro/nitro_enclave.h"
#include "nitro/eif/reader.h"

namespace nitro::proc {
namespace {

Result<std::unique_ptr<Machine>> make_local(const RunRequest& request, const std::string& sockets_folder) {
  auto image = eif::Reader::open(request.eif_path);
  if (!image) {
    // Opening the file and understanding it are told apart, as for an enclave of the device.
    const bool malformed = image.error().code() == ErrorCode::kEifParsing;
    Error error = std::move(image).error();
    return Failure(malformed ? std::move(error).as(ErrorCode::kSignatureChecker) : std::move(error));
  }
  NITRO_CHECK(check_memory_for_image(request.memory, image->file_size_bytes()));
  return make_local_enclave(request, std::move(*image), sockets_folder);
}

}  // namespace

Result<std::unique_ptr<Machine>> make_machine(const RunRequest& request, const std::string& sockets_folder) {
  return request.backend == Backend::kLocal ? make_local(request, sockets_folder) : make_nitro_enclave(request);
}

}  // namespace nitro::proc
