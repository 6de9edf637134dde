// SPDX-License-Identifier: Apache-2.0
#include "eif/image/registry_certificates.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "eif/image/docker_config.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"

namespace nitro::image {

std::vector<std::string> certificate_folders() {
  auto settings = environment_variable("XDG_CONFIG_HOME");
  if (const auto home = environment_variable("HOME"); home && !settings) settings = *home + "/.config";
  std::vector<std::string> folders;
  if (settings) folders = {*settings + "/docker/certs.d", *settings + "/containers/certs.d"};
  folders.insert(folders.end(), {"/etc/docker/certs.d", "/etc/containers/certs.d"});
  return folders;
}

Result<RegistryCertificates> registry_certificates(const std::string& host, const std::vector<std::string>& folders) {
  RegistryCertificates certificates;
  if (host == "." || host == "..") return certificates;  // a possible server name, but not its folder
  for (const auto& folder : folders) {
    std::error_code absent;  // most machines have none of these folders
    std::vector<std::filesystem::path> files;
    for (std::filesystem::directory_iterator next(folder + "/" + host, absent), end; next != end;
         next.increment(absent))
      files.push_back(next->path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
      if (file.extension() == ".crt") {
        auto text = read_text_file(file.string());
        if (!text) return Failure(std::move(text).error().as(ErrorCode::kDockerImagePull));
        certificates.authorities += *text + "\n";
      } else if (file.extension() == ".cert" && certificates.client_certificate_file.empty()) {
        auto key = file;
        key.replace_extension(".key");
        if (::access(key.c_str(), R_OK) != 0) {
          return fail_errno(ErrorCode::kDockerImagePull,
                            "the key " + quote(key.string()) + " of the certificate beside it");
        }
        certificates.client_certificate_file = file.string();
        certificates.client_key_file = key.string();
      }
    }
  }
  return certificates;
}

}  // namespace nitro::image
