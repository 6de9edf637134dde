// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/local_enclave.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "enclave_proc/client/client.h"
#include "enclave_proc/machine/enclave_id.h"
#include "src/base/bytes.h"

namespace nitro::proxy {

Result<LocalEnclave> find_local_enclave(const std::string& name_or_id) {
  NITRO_TRY(const auto found, proc::find_sockets_folders());
  const auto& folders = found.trusted;
  std::string id = name_or_id;
  auto connection = proc::connect_to(id, folders);
  if (!connection) {
    auto named = proc::id_of(name_or_id, folders);
    if (!named) {
      // A folder that is not trusted may be why.
      for (const Error& skipped : found.passed_over) {
        return fail_within(std::move(named).error().message(), Error(ErrorCode::kEnclaveNaming, skipped.message()));
      }
      return Failure(std::move(named).error());
    }
    id = std::move(*named);
    connection = proc::connect_to(id, folders);
  }
  if (!connection) return Failure(std::move(connection).error());
  NITRO_TRY(const std::uint64_t cid, proc::ask_number(std::move(*connection), proc::Command::kGetEnclaveCid));
  for (const proc::SocketsFolder& folder : folders) {
    const std::string path = folder.path_of(proc::local_folder_name(id));
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
      return LocalEnclave{.folder = path, .cid = static_cast<std::uint32_t>(cid)};
    }
  }
  return fail(
      ErrorCode::kInvalidArgument,
      fmt::format("{} is not a local enclave; without --local the proxy serves it through vsock", quote(name_or_id)));
}

}  // namespace nitro::proxy
