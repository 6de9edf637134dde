// SPDX-License-Identifier: Apache-2.0
#include "eif/image/reference.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "eif/image/digest.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

constexpr std::string_view kDefaultHost = "docker.io";
constexpr std::string_view kOfficialImages = "library/";
constexpr std::size_t kMaxNameBytes = 255;
constexpr std::size_t kMaxTagBytes = 128;

Failure invalid(std::string_view name, std::string_view reason) {
  return fail(ErrorCode::kDockerImagePull, "image name " + quote(name) + ": " + std::string(reason));
}

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}

// Whether `part` is one component of a repository's path: lower-case letters and digits, with separators ('.', '_',
// "__", any number of '-') only inside.
bool is_path_part(std::string_view part) {
  if (part.empty() || !is_alphanumeric(part.front()) || !is_alphanumeric(part.back())) return false;
  for (std::size_t i = 0; i < part.size();) {
    if (is_alphanumeric(part[i])) {
      ++i;
      continue;
    }
    const auto end = std::find_if(part.begin() + static_cast<std::ptrdiff_t>(i), part.end(), is_alphanumeric);
    const auto separator = part.substr(i, static_cast<std::size_t>(end - part.begin()) - i);
    const bool dashes = separator.find_first_not_of('-') == std::string_view::npos;
    if (!dashes && separator != "." && separator != "_" && separator != "__") return false;
    i += separator.size();
  }
  return true;
}

bool is_tag(std::string_view tag) {
  const auto word = [](char c) { return is_alphanumeric(c) || is_upper(c) || c == '_'; };
  return !tag.empty() && tag.size() <= kMaxTagBytes && word(tag.front()) &&
         std::all_of(tag.begin(), tag.end(), [word](char c) { return word(c) || c == '.' || c == '-'; });
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Labels of letters, digits and inner dashes, separated by dots; includes IPv4 addresses.
bool is_host_name(std::string_view name) {
  const auto word = [](char c) { return is_alphanumeric(c) || is_upper(c); };
  for (;;) {
    const auto dot = name.find('.');
    const auto label = name.substr(0, dot);
    if (label.empty() || !word(label.front()) || !word(label.back())) return false;
    if (!std::all_of(label.begin(), label.end(), [word](char c) { return word(c) || c == '-'; })) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

// HOST[:PORT]; an IPv6 address is in brackets.
bool is_host(std::string_view host) {
  std::string_view port;
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    if (end == std::string_view::npos) return false;
    in6_addr address{};
    if (::inet_pton(AF_INET6, std::string(host.substr(1, end - 1)).c_str(), &address) != 1) return false;
    port = host.substr(end + 1);
  } else {
    const auto colon = host.find(':');
    if (!is_host_name(host.substr(0, colon))) return false;
    if (colon != std::string_view::npos) port = host.substr(colon);
  }
  return port.empty() ||
         (port.front() == ':' && port.size() > 1 && std::all_of(port.begin() + 1, port.end(), is_digit));
}

// Whether the first part of a name is a host; otherwise it belongs to the path on Docker Hub.
bool looks_like_host(std::string_view part) {
  return part == "localhost" || part.find_first_of(".:") != std::string_view::npos ||
         std::any_of(part.begin(), part.end(), is_upper);
}

}  // namespace

std::string_view without_tag(std::string_view name) {
  name = name.substr(0, name.find('@'));
  const auto slash = name.rfind('/');
  const auto colon = name.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash))
    name = name.substr(0, colon);
  return name;
}

std::string ImageName::canonical() const {
  return host + "/" + repository + (tag.empty() ? "" : ":" + tag) + (digest.empty() ? "" : "@" + digest);
}

Result<ImageName> parse_image_name(std::string_view text) {
  if (is_sha256("sha256:" + std::string(text))) {
    return invalid(text, "64 hexadecimal digits are a digest; write \"sha256:\" before them");
  }
  ImageName name;
  auto rest = text;
  if (const auto at = rest.find('@'); at != std::string_view::npos) {
    name.digest = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!is_sha256(name.digest)) return invalid(text, "what follows '@' is not \"sha256:\" and 64 hexadecimal digits");
  }
  const auto repository = without_tag(rest);
  if (repository.size() != rest.size()) {
    name.tag = rest.substr(repository.size() + 1);
    if (!is_tag(name.tag)) return invalid(text, "the tag is empty or has a character that tags do not have");
  } else if (name.digest.empty()) {
    name.tag = "latest";
  }

  auto path = repository;
  if (const auto slash = path.find('/'); slash != std::string_view::npos && looks_like_host(path.substr(0, slash))) {
    name.host = path.substr(0, slash);
    path = path.substr(slash + 1);
    if (!is_host(name.host)) return invalid(text, "what stands before the first '/' is no host with or without a port");
    if (name.host == "index.docker.io") name.host = kDefaultHost;
  } else {
    name.host = kDefaultHost;
  }
  if (path.empty()) return invalid(text, "the name of the repository is missing");
  for (auto parts = path;;) {
    const auto slash = parts.find('/');
    if (!is_path_part(parts.substr(0, slash))) {
      return invalid(text,
                     "a repository is named with lower-case letters, digits and single separators (. _ -) between '/'");
    }
    if (slash == std::string_view::npos) break;
    parts = parts.substr(slash + 1);
  }
  if (name.host == kDefaultHost && path.find('/') == std::string_view::npos) name.repository = kOfficialImages;
  name.repository += path;
  // Limit for the full name (distribution: NameTotalLengthMax).
  if (name.host.size() + 1 + name.repository.size() > kMaxNameBytes) {
    return invalid(text, "the name of the repository, with that of its registry, is longer than 255 characters");
  }
  return name;
}

Result<Reference> parse_reference(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, Transport>, 5> kPrefixes{
      {{"docker-daemon:", Transport::kDaemon},
       {"docker-archive:", Transport::kDockerArchive},
       {"oci-archive:", Transport::kOciArchive},
       {"oci:", Transport::kOci},
       {"docker://", Transport::kRegistry}}};
  Reference reference;
  auto rest = text;
  for (const auto& [prefix, transport] : kPrefixes) {
    if (text.starts_with(prefix)) {
      reference.transport = transport;
      rest = text.substr(prefix.size());
      break;
    }
  }
  switch (reference.transport) {
    case Transport::kDockerArchive:
    case Transport::kOciArchive:
    case Transport::kOci: {
      const auto colon = rest.find(':');
      reference.path = rest.substr(0, colon);
      if (colon != std::string_view::npos) reference.name = rest.substr(colon + 1);
      if (reference.path.empty()) {
        return fail(ErrorCode::kDockerImagePull, "image " + quote(text) + ": the path is missing after the prefix");
      }
      if (colon != std::string_view::npos && reference.name.empty()) {
        return fail(ErrorCode::kDockerImagePull,
                    "image " + quote(text) + ": the name after the path is empty; leave out the ':'");
      }
      break;
    }
    case Transport::kUnspecified:
    case Transport::kDaemon:
    case Transport::kRegistry:
      reference.name = rest;
      // An engine also accepts a bare digest ("sha256:…").
      if (reference.transport != Transport::kRegistry && is_sha256(rest)) break;
      NITRO_TRY(const auto name, parse_image_name(rest));
      // Made explicit: an engine that pulls a name without a tag pulls every tag.
      if (name.digest.empty() && without_tag(rest) == rest) reference.name += ":" + name.tag;
  }
  return reference;
}

}  // namespace nitro::image
