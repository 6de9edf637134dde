// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/allowlist.h"

#include "src/yaml/yaml.h"
#include "vsock_proxy/config/endpoint.h"

namespace nitro::proxy {
namespace {

Result<AllowedService> service_of(const YamlValue& entry) {
  NITRO_TRY(const YamlValue address, entry.at("address"));
  NITRO_TRY(const YamlValue port, entry.at("port"));
  if (address.is_null() || port.is_null()) {
    return entry.fault("an entry has an address and a port: {address: kms.us-east-1.amazonaws.com, port: 443}");
  }
  AllowedService service;
  NITRO_TRY(service.address, address.text());
  NITRO_TRY(const std::uint64_t number, port.number(0, kMaxTcpPort));
  service.port = static_cast<std::uint16_t>(number);
  return service;
}

}  // namespace

Result<Allowlist> load_allowlist(const std::string& path) {
  NITRO_TRY(const YamlValue file, YamlValue::load(path));
  if (!file.is_mapping()) return file.fault("the list \"allowlist\" is missing");
  NITRO_TRY(const YamlValue list, file.at("allowlist"));
  if (list.is_null()) return file.fault("the list \"allowlist\" is missing");
  if (!list.is_list()) return list.fault("must be a list");
  Allowlist allowlist;
  auto read = list.for_each_item([&allowlist](const YamlValue& entry) -> Result<void> {
    NITRO_TRY(AllowedService service, service_of(entry));
    allowlist.services.push_back(std::move(service));
    return {};
  });
  if (!read) allowlist.fault = std::move(read).error();
  return allowlist;
}

}  // namespace nitro::proxy
