// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/describe_json.h"

#include "src/base/bytes.h"

namespace nitro::eif {
namespace {

nlohmann::ordered_json certificate_json(const CertificateInfo& certificate) {
  nlohmann::ordered_json issuer = nlohmann::ordered_json::object();
  for (const auto& [name, value] : certificate.issuer) issuer[name] = value;
  nlohmann::ordered_json json;
  json["IssuerName"] = std::move(issuer);
  json["Algorithm"] = certificate.algorithm;
  json["NotBefore"] = certificate.not_before;
  json["NotAfter"] = certificate.not_after;
  json["Signature"] = certificate.signature;
  return json;
}

}  // namespace

nlohmann::ordered_json to_json(const Metadata& metadata) {
  nlohmann::ordered_json json;
  json["BuildTime"] = metadata.build.build_time;
  json["BuildTool"] = metadata.build.build_tool;
  json["BuildToolVersion"] = metadata.build.build_tool_version;
  json["OperatingSystem"] = metadata.build.operating_system;
  json["KernelVersion"] = metadata.build.kernel_version;
  json["DockerInfo"] = metadata.docker_info;
  if (metadata.custom.is_null()) return json;

  bool fits = metadata.custom.is_object();
  for (auto ours = json.begin(); fits && ours != json.end(); ++ours) fits = !metadata.custom.contains(ours.key());
  if (!fits) {
    json["CustomMetadata"] = metadata.custom;
    return json;
  }
  // The keys of an object are unique, so they can be appended without searching for duplicates.
  auto& keys = json.get_ref<nlohmann::ordered_json::object_t&>();
  for (const auto& [key, value] : metadata.custom.items()) keys.emplace_back(key, value);
  return json;
}

nlohmann::ordered_json to_json(const Description& description) {
  nlohmann::ordered_json json;
  json["EifVersion"] = description.header.version;
  json["Measurements"] = to_json(description.measurements);
  json["IsSigned"] = description.signature.has_value();
  if (description.signature) json["SigningCertificate"] = certificate_json(description.signature->certificate);
  json["CheckCRC"] = description.crc_ok;
  if (description.signature) json["SignatureCheck"] = description.signature->covers_image;
  if (description.metadata) {
    json["ImageName"] = description.metadata->image_name;
    json["ImageVersion"] = description.metadata->image_version;
    json["Metadata"] = to_json(*description.metadata);
  }
  return json;
}

}  // namespace nitro::eif
