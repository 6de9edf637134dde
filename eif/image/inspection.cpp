// SPDX-License-Identifier: Apache-2.0
#include "eif/image/inspection.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "src/base/json.h"

namespace nitro::image {

namespace {

using Json = nlohmann::ordered_json;

// Go's zero time, as Docker prints it.
constexpr const char* kNever = "0001-01-01T00:00:00Z";

// The keys of Docker's Engine API 1.49 that the reference's client library knows; it drops others, and null values.
constexpr std::array<std::string_view, 20> kImageKeys{
    "Architecture", "Author",   "Comment",   "Config",   "Created", "Descriptor", "DockerVersion",
    "GraphDriver",  "Id",       "Manifests", "Metadata", "Os",      "OsVersion",  "Parent",
    "RepoDigests",  "RepoTags", "RootFS",    "Size",     "Variant", "VirtualSize"};
constexpr std::array<std::string_view, 25> kConfigKeys{
    "ArgsEscaped", "AttachStderr", "AttachStdin", "AttachStdout", "Cmd",
    "Domainname",  "Entrypoint",   "Env",         "ExposedPorts", "Healthcheck",
    "Hostname",    "Image",        "Labels",      "MacAddress",   "NetworkDisabled",
    "OnBuild",     "OpenStdin",    "Shell",       "StdinOnce",    "StopSignal",
    "StopTimeout", "Tty",          "User",        "Volumes",      "WorkingDir"};

template <std::size_t N>
Json only(const Json& object, const std::array<std::string_view, N>& keys) {
  Json kept = Json::object();
  for (const auto key : keys) {
    if (const auto* found = value_at(object, key); found != nullptr) kept[std::string(key)] = *found;
  }
  return kept;
}

// Returns Docker's form of a configuration's "config": some keys are always there, with Go's zero values if the image
// does not set them, others only if it does.
Json runtime_config(const Json& config) {
  Json runtime = Json::object();
  if (const auto* found = value_at(config, "config"); found != nullptr) runtime = only(*found, kConfigKeys);
  for (const char* key : {"AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"}) {
    if (!runtime.contains(key)) runtime[key] = false;
  }
  for (const char* key : {"Domainname", "Hostname", "Image", "User", "WorkingDir"}) {
    if (!runtime.contains(key)) runtime[key] = "";
  }
  for (const char* key : {"ArgsEscaped", "NetworkDisabled"}) {
    if (runtime.contains(key) && runtime[key] == false) runtime.erase(key);
  }
  for (const char* key : {"ExposedPorts", "MacAddress", "StopSignal", "Shell"}) {
    if (runtime.contains(key) && (runtime[key].empty() || runtime[key] == "")) runtime.erase(key);
  }
  return runtime;
}

Json from_image(const Image& image, const std::vector<std::string>& tags) {
  const auto& source = image.source();
  const Json& config = source.config;
  Json description;
  description["Architecture"] = image.config().architecture;
  description["Author"] = text_at(config, "author");
  description["Comment"] = text_at(config, "comment");
  description["Config"] = runtime_config(config);
  const auto created = text_at(config, "created");
  description["Created"] = created.empty() ? kNever : created;
  description["DockerVersion"] = text_at(config, "docker_version");
  // How an engine stores the image does not depend on the image; this is Docker's text for plain folders.
  description["GraphDriver"] = {{"Data", Json::object()}, {"Name", "vfs"}};
  description["Id"] = source.id;
  description["Metadata"] = {{"LastTagTime", kNever}};
  description["Os"] = text_at(config, "os");
  if (const auto version = text_at(config, "os.version"); !version.empty()) description["OsVersion"] = version;
  description["Parent"] = "";
  description["RepoDigests"] = Json::array();
  description["RepoTags"] = tags;
  description["RootFS"] = {{"Layers", image.config().layer_digests}, {"Type", "layers"}};
  description["Size"] = image.size_bytes();
  if (const auto variant = text_at(config, "variant"); !variant.empty()) description["Variant"] = variant;
  description["VirtualSize"] = image.size_bytes();
  return description;
}

Json from_engine(const Json& inspection) {
  Json description = only(inspection, kImageKeys);
  if (description.contains("Config")) description["Config"] = only(description["Config"], kConfigKeys);
  // The client library's lists and maps are never null.
  for (const char* key : {"RepoDigests", "RepoTags"}) {
    if (!description.contains(key)) description[key] = Json::array();
  }
  if (auto driver = description.find("GraphDriver"); driver != description.end() && driver->is_object()) {
    if (!driver->contains("Data") || (*driver)["Data"].is_null()) (*driver)["Data"] = Json::object();
  }
  return description;
}

}  // namespace

Json describe_image(const Image& image, Describer describer) {
  const auto& inspection = image.source().inspection;
  const bool ask_engine = describer == Describer::kEngine && inspection.is_object();
  if (ask_engine) return with_sorted_keys(from_engine(inspection));
  // Names are given by whoever stores an image; the image itself has none.
  const auto tags = describer == Describer::kEngine ? image.source().repository_tags : std::vector<std::string>();
  return with_sorted_keys(from_image(image, tags));
}

}  // namespace nitro::image
