// SPDX-License-Identifier: Apache-2.0
#include "eif/image/credentials.h"

#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "eif/image/source.h"
#include "nitro/bytes.h"
#include "nitro/fd.h"

namespace nitro::image {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool is_folder(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::vector<std::string> config_files() {
  std::vector<std::string> files;
  // The reference takes DOCKER_CONFIG for the file itself, docker for the folder it is in; both are understood.
  if (const auto config = environment("DOCKER_CONFIG"); !config.empty()) {
    files.push_back(is_folder(config) ? config + "/config.json" : config);
    return files;
  }
  if (const auto file = environment("REGISTRY_AUTH_FILE"); !file.empty()) files.push_back(file);
  if (const auto folder = environment("XDG_RUNTIME_DIR"); !folder.empty())
    files.push_back(folder + "/containers/auth.json");
  if (const auto home = environment("HOME"); !home.empty()) files.push_back(home + "/.docker/config.json");
  return files;
}

// "https://index.docker.io/v1/" is docker.io; "https://registry.example.com" is registry.example.com.
std::string_view host_of(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  key = key.substr(0, key.find('/'));
  return key == "index.docker.io" || key == "registry-1.docker.io" ? "docker.io" : key;
}

}  // namespace

std::string to_base64(std::string_view text) {
  std::string encoded(4 * ((text.size() + 2) / 3) + 1, '\0');
  // unsigned char may alias any object.
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return encoded;
}

std::optional<std::string> from_base64(std::string_view text) {
  const auto padding = text.ends_with("==") ? 2U : text.ends_with("=") ? 1U : 0U;
  // OpenSSL is lenient with padding in the middle.
  const bool odd = text.substr(0, text.size() - padding).find('=') != std::string_view::npos;
  if (text.size() % 4 != 0 || odd || text.size() > (std::size_t{1} << 20)) return std::nullopt;
  std::string decoded(text.size() / 4 * 3, '\0');
  // unsigned char may alias any object.
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(decoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  // It counts the bytes that the padding stands for.
  decoded.resize(static_cast<std::size_t>(size) - padding);
  return decoded;
}

Result<std::optional<Credentials>> credentials_in(std::string_view config, std::string_view host) {
  auto json = parse_document(config, "the file of registry credentials");
  if (!json) return Failure(std::move(json).error().as(ErrorCode::kDockerImagePull));
  const auto* logins = value_at(*json, "auths");
  if (logins == nullptr || !logins->is_object()) return std::optional<Credentials>();
  for (const auto& [key, value] : logins->items()) {
    if (host_of(key) != host) continue;
    const auto encoded = text_at(value, "auth");
    if (encoded.empty()) continue;
    const auto decoded = from_base64(encoded);
    const auto colon = decoded ? decoded->find(':') : std::string::npos;
    if (colon == std::string::npos) {
      return fail(ErrorCode::kDockerImagePull,
                  "the stored credentials for " + quote(host) + " are damaged; log in again");
    }
    return std::optional<Credentials>({decoded->substr(0, colon), decoded->substr(colon + 1)});
  }
  return std::optional<Credentials>();
}

Result<std::optional<Credentials>> stored_credentials(std::string_view host) {
  for (const auto& path : config_files()) {
    if (::access(path.c_str(), R_OK) != 0) continue;
    auto text = read_text_file(path);
    if (!text) return Failure(std::move(text).error().as(ErrorCode::kDockerImagePull));
    auto found = credentials_in(*text, host);
    if (!found) return fail_within(quote(path), std::move(found).error());
    if (*found) return found;
  }
  return std::optional<Credentials>();
}

}  // namespace nitro::image
