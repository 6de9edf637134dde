// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/machine/enclave_id.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "nitro/fd.h"
#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

// Linux: Documentation/ABI/testing/sysfs-class-dmi; on EC2 the tag is the instance ID.
constexpr const char* kInstanceIdFile = "/sys/devices/virtual/dmi/id/board_asset_tag";
constexpr std::string_view kSeparator = "-enc";

std::string instance_id() {
  auto text = read_text_file(kInstanceIdFile, 4096);
  std::string id = text ? *text : "";
  std::erase_if(id, [](unsigned char c) { return std::isspace(c) != 0; });
  // The ID becomes part of file names, and the tag of other machines can hold anything.
  const bool usable = !id.empty() && id.size() <= 64 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-';
  });
  return usable ? id : "i-0000000000000000";
}

}  // namespace

std::string enclave_id(std::uint64_t slot_uid) {
  return fmt::format("{}{}{:x}", instance_id(), kSeparator, slot_uid);
}

Result<std::string> socket_name(std::string_view id) {
  const std::size_t separator = id.rfind(kSeparator);
  const std::string_view slot = separator == std::string_view::npos ? id : id.substr(separator + kSeparator.size());
  if (slot.empty() || slot.size() > 64 || slot.find('/') != std::string_view::npos ||
      slot.find('\0') != std::string_view::npos) {
    return fail(ErrorCode::kSocket, fmt::format("{} is not the ID of an enclave", quote(id)));
  }
  return fmt::format("{}.sock", slot);
}

std::string local_folder_name(std::string_view id) {
  return fmt::format("{}.vsock", id);
}

}  // namespace nitro::proc
