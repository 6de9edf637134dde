// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/description.h"

#include "nitro/eif/describe_json.h"

namespace nitro::proc {
namespace {

using Json = nlohmann::ordered_json;

std::string_view to_string(EnclaveState state) {
  switch (state) {
    case EnclaveState::kEmpty:
      return "EMPTY";
    case EnclaveState::kRunning:
      return "RUNNING";
    case EnclaveState::kTerminating:
      return "TERMINATING";
  }
  return "EMPTY";
}

}  // namespace

Json run_info(const EnclaveIdentity& enclave) {
  Json json;
  json["EnclaveName"] = enclave.name;
  json["EnclaveID"] = enclave.id;
  json["ProcessID"] = enclave.process;
  json["EnclaveCID"] = enclave.resources.enclave_cid;
  json["NumberOfCPUs"] = enclave.resources.cpu_ids.size();
  json["CPUIDs"] = enclave.resources.cpu_ids;
  json["MemoryMiB"] = enclave.resources.memory.mib();
  return json;
}

Json describe_info(const EnclaveIdentity& enclave, EnclaveState state, const eif::Description& image,
                   bool with_metadata) {
  Json json = run_info(enclave);
  json["State"] = to_string(state);
  json["Flags"] = enclave.debug_mode ? "DEBUG_MODE" : "NONE";
  json["Measurements"] = eif::to_json(image.measurements);
  if (with_metadata && image.metadata) {
    json["ImageName"] = image.metadata->image_name;
    json["ImageVersion"] = image.metadata->image_version;
    json["Metadata"] = eif::to_json(*image.metadata);
  }
  return json;
}

Json terminate_info(const EnclaveIdentity& enclave) {
  Json json;
  json["EnclaveName"] = enclave.name;
  json["EnclaveID"] = enclave.id;
  json["Terminated"] = true;
  return json;
}

}  // namespace nitro::proc
