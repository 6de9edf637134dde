// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/backend.h"

#include <utility>

#include "enclave_proc/device/device_enclave.h"
#include "enclave_proc/qemu/qemu_enclave.h"
#include "nitro/eif/reader.h"

namespace nitro::proc {
namespace {

Result<std::unique_ptr<Machine>> make_local(const RunRequest& request, Result<Fd> file, const SocketsFolder& folder) {
  if (!file) return Failure(std::move(file).error());
  auto image = eif::Reader::open(std::move(*file), request.eif_path);
  if (!image) return Failure(std::move(image).error().as(ErrorCode::kSignatureChecker));
  NITRO_CHECK(check_memory_for_image(request.memory, image->file_size_bytes()));
  return make_qemu_enclave(request, std::move(*image), folder);
}

}  // namespace

Result<std::unique_ptr<Machine>> make_machine(const RunRequest& request, Result<Fd> image,
                                              const SocketsFolder& folder) {
  return request.backend == Backend::kQemu ? make_local(request, std::move(image), folder)
                                           : make_device_enclave(request, std::move(image));
}

}  // namespace nitro::proc
