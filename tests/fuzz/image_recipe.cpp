// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/image_recipe.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "eif/image/digest.h"
#include "src/base/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tar_blocks.h"

namespace nitro::fuzz {

namespace {

// Few, so that an input is read thousands of times in a second; a content of this size has several pieces in every
// decoder.
constexpr std::size_t kMaxContentBytes = std::size_t{400} << 10;
constexpr std::size_t kMaxTextBytes = std::size_t{16} << 10;
constexpr std::size_t kMaxDocumentBytes = std::size_t{64} << 10;
constexpr std::size_t kMaxParts = 8;

// What stands in front of the first `end`; it is cut off, and so is the end.
std::string_view cut(std::string_view& text, char end) {
  const auto at = text.find(end);
  const auto part = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return part;
}

// The number that `text` begins with, or 0; it is cut off, and so is a semicolon behind it.
std::size_t cut_number(std::string_view& text, int base = 10) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with(';')) text.remove_prefix(1);
  return error == std::errc() ? number : 0;
}

std::string unescaped(std::string_view text) {
  std::string result;
  while (!text.empty() && result.size() < kMaxTextBytes) {
    const char first = text.front();
    text.remove_prefix(1);
    if (first != '\\' || text.empty()) {
      result += first;
      continue;
    }
    const char kind = text.front();
    text.remove_prefix(1);
    switch (kind) {
      case 'n':
        result += '\n';
        break;
      case '0':
        result += '\0';
        break;
      case 's':
        result += ' ';
        break;
      case 'z':
        fill_block(result);
        break;
      case 'x': {
        auto digits = text.substr(0, 2);
        text.remove_prefix(digits.size());
        result += static_cast<char>(cut_number(digits, 16));
        break;
      }
      case '*': {
        const auto unit = result;
        for (auto times = cut_number(text); times > 1 && result.size() + unit.size() <= kMaxTextBytes; --times) {
          result += unit;
        }
        break;
      }
      default:
        result += kind;
    }
  }
  return result;
}

// No piece of it looks like another.
const std::string& long_content() {
  static const auto content = [] {
    std::string bytes(kMaxContentBytes, '\0');
    for (std::uint32_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 7U);
    return bytes;
  }();
  return content;
}

std::string digits_of(std::string_view content) {
  return image::sha256(as_bytes(content)).substr(7);
}

std::string compressed(std::string_view bytes, char how) {
  struct Free {
    void operator()(archive* writer) const { archive_write_free(writer); }
    void operator()(archive_entry* entry) const { archive_entry_free(entry); }
  };
  const std::unique_ptr<archive, Free> writer(archive_write_new());
  require(writer != nullptr);
  auto* const to = writer.get();
  switch (how) {
    case 'g':
      archive_write_add_filter_gzip(to);
      archive_write_set_filter_option(to, "gzip", "timestamp", nullptr);
      archive_write_set_filter_option(to, "gzip", "compression-level", "1");
      break;
    case 'z':
      archive_write_add_filter_zstd(to);
      archive_write_set_filter_option(to, "zstd", "compression-level", "1");
      break;
    case 'x':
      archive_write_add_filter_xz(to);
      archive_write_set_filter_option(to, "xz", "compression-level", "0");
      break;
    default:
      archive_write_add_filter_bzip2(to);
      archive_write_set_filter_option(to, "bzip2", "compression-level", "1");
  }
  archive_write_set_format_raw(to);
  archive_write_set_bytes_in_last_block(to, 1);
  std::string result;
  const auto write = [](archive*, void* into, const void* data, std::size_t size) {
    static_cast<std::string*>(into)->append(static_cast<const char*>(data), size);
    return static_cast<la_ssize_t>(size);
  };
  require(archive_write_open(to, &result, nullptr, write, nullptr) == ARCHIVE_OK);
  const std::unique_ptr<archive_entry, Free> entry(archive_entry_new());
  archive_entry_set_filetype(entry.get(), AE_IFREG);
  require(archive_write_header(to, entry.get()) == ARCHIVE_OK);
  require(archive_write_data(to, bytes.data(), bytes.size()) == static_cast<la_ssize_t>(bytes.size()));
  require(archive_write_close(to) == ARCHIVE_OK);
  return result;
}

void turn_bit(std::string& bytes, std::size_t at) {
  if (!bytes.empty()) bytes[at % bytes.size()] = static_cast<char>(bytes[at % bytes.size()] ^ 1);
}

// An archive as it is stored, and what its digest is taken of.
struct Stored {
  std::string unpacked;
  std::string promised;
  std::string stored;
};

Stored store(std::string archive, std::string_view how) {
  if (how.starts_with('/')) {
    how.remove_prefix(1);
  } else {
    archive.append(2 * kTarBlock, '\0');
  }
  Stored result{archive, archive, {}};
  auto& bytes = result.promised;
  std::vector<std::size_t> turned_later;
  for (int step = 0; !how.empty() && step < 8; ++step) {
    const char kind = how.front();
    how.remove_prefix(1);
    switch (kind) {
      case 'g':
      case 'z':
      case 'x':
      case 'b': {
        const std::string_view all = bytes;
        const bool twice = how.starts_with(kind);
        const auto first = twice ? all.size() / 2 : all.size();
        auto packed = compressed(all.substr(0, first), kind);
        if (twice) {
          packed += compressed(all.substr(first), kind);
          how.remove_prefix(1);
        }
        bytes = std::move(packed);
        break;
      }
      case 's':
        bytes.insert(0, std::string_view("\x50\x2a\x4d\x18\x01\0\0\0s", 9));
        break;
      case '-':
        bytes.resize(bytes.size() - std::min(bytes.size(), cut_number(how)));
        break;
      case '^':
        turn_bit(bytes, cut_number(how));
        break;
      case '!':
        turned_later.push_back(cut_number(how));
        break;
      case '+':
        bytes += unescaped(std::exchange(how, {}));
        break;
      default:
        break;
    }
  }
  result.stored = result.promised;
  for (const auto at : turned_later) turn_bit(result.stored, at);
  return result;
}

// Writes members of a tar archive, a line each.
class Members {
 public:
  // False when the line is none of a member.
  bool add(std::string_view line, std::size_t& content_left) {
    if (line.empty()) return false;
    const char kind = line.front();
    line.remove_prefix(1);
    if (kind == '=') {
      const auto at = cut_number(line);
      if (line.starts_with(' ')) line.remove_prefix(1);
      changes_.emplace_back(at, unescaped(line));
      return true;
    }
    if (!line.starts_with(' ')) return false;
    line.remove_prefix(1);
    switch (kind) {
      case 'f':
      case 'F': {
        const auto name = unescaped(cut(line, ' '));
        std::string content;
        if (kind == 'f') {
          content = unescaped(line);
        } else {
          content = long_content().substr(0, cut_number(line));
        }
        content.resize(std::min(content.size(), content_left));
        content_left -= content.size();
        add_member('0', name, {}, content);
        return true;
      }
      case 'd':
        add_member('5', unescaped(line), {}, {});
        return true;
      case 'p':
        add_member('6', unescaped(line), {}, {});
        return true;
      case 'c':
      case 'b':
        add_member(kind == 'c' ? '3' : '4', unescaped(line), {}, {});
        return true;
      case 'l':
      case 'h': {
        const auto name = unescaped(cut(line, ' '));
        add_member(kind == 'l' ? '2' : '1', name, unescaped(line), {});
        return true;
      }
      case 'g': {
        const auto key = cut(line, '=');
        add_plain('g', record(key, unescaped(line)));
        return true;
      }
      case 'L':
      case 'K':
        add_plain(kind, unescaped(line));
        return true;
      case 'x': {
        const auto key = cut(line, '=');
        records_ += record(key, unescaped(line));
        return true;
      }
      case 'X':
        records_ = unescaped(line);
        return true;
      case 'v':
        if (!line.empty()) format_ = line.front();
        return true;
      default:
        return false;
    }
  }

  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::string take() { return std::exchange(bytes_, {}); }

 private:
  // "LENGTH KEY=VALUE\n", the length of all of it.
  static std::string record(std::string_view key, std::string_view value) {
    const auto text = std::string(key) + '=' + std::string(value);
    auto size = text.size() + 3;
    for (;;) {
      auto line = std::to_string(size) + ' ' + text + '\n';
      if (line.size() == size) return line;
      size = line.size();
    }
  }

  static std::string octal(std::uint64_t value, int digits) {
    char text[24];
    std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
    return text;
  }

  std::size_t add_header(char type, std::string_view name, std::string_view target, std::size_t size) {
    const auto at = bytes_.size();
    bytes_.resize(at + kTarBlock);
    const auto put = [&](std::size_t offset, std::string_view text) { bytes_.replace(at + offset, text.size(), text); };
    put(0, name.substr(0, 100));
    put(100, type == '5' ? "0000755" : "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, octal(size, 11));
    put(136, octal(1'700'000'000, 11));
    put(156, std::string_view(&type, 1));
    put(157, target.substr(0, 100));
    if (format_ != '7')
      put(257, format_ == 'g' ? std::string_view("ustar  \0", 8) : std::string_view("ustar\00000", 8));
    if (format_ == 's') put(508, std::string_view("tar\0", 4));
    return at;
  }

  void add_plain(char type, std::string_view content) {
    put_checksum_right(bytes_, add_header(type, "headers", {}, content.size()));
    bytes_ += content;
    fill_block(bytes_);
  }

  void add_member(char type, std::string_view name, std::string_view target, std::string_view content) {
    if (name.size() > 100 && records_.empty()) records_ = record("path", name);
    if (target.size() > 100) records_ += record("linkpath", target);
    if (!records_.empty()) add_plain('x', std::exchange(records_, {}));
    const auto at = add_header(type, name, target, content.size());
    bool sum_given = false;
    const auto apply = [&] {
      for (const auto& [offset, text] : changes_) {
        if (offset >= kTarBlock) continue;
        const auto size = std::min(text.size(), kTarBlock - offset);
        bytes_.replace(at + offset, size, text, 0, size);
        sum_given = sum_given || (offset < 156 && offset + size > 148);
      }
    };
    apply();
    if (!sum_given) put_checksum_right(bytes_, at);
    changes_.clear();
    bytes_ += content;
    fill_block(bytes_);
  }

  std::string bytes_;
  std::string records_;
  std::vector<std::pair<std::size_t, std::string>> changes_;
  char format_ = 'u';
};

class Recipe {
 public:
  explicit Recipe(bool oci) : oci_(oci) {
    config_ =
        R"({"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/app"],"Env":["A=b"],"WorkingDir":"/work"},)"
        R"("rootfs":{"type":"layers","diff_ids":[@d]}})";
    manifest_ = oci ? R"({"schemaVersion":2,"config":{@c},"layers":[@*]})"
                    : R"([{"Config":"blobs/sha256/@C","RepoTags":["golden/tiny:1"],"Layers":[@*]}])";
    index_ = R"({"schemaVersion":2,"manifests":[{@m}]})";
  }

  void read(std::string_view text) {
    while (!text.empty()) {
      auto line = cut(text, '\n');
      if (layer_.add(line, content_left_) || line.empty()) continue;
      const char kind = line.front();
      line.remove_prefix(1);
      if (line.starts_with(' ')) line.remove_prefix(1);
      if (kind == '~') end_layer(line);
      if (kind == '>' && outer_.size() < 64) outer_.push_back(line);
      if (kind == 'C') config_ = line;
      if (kind == 'M') manifest_ = line;
      if (kind == 'I') index_ = line;
      if (kind == 'B' && documents_.size() < kMaxParts) documents_.emplace_back(line);
      if (kind == 'Z') whole_ = line;
      if (kind == 'A') arm_ = true;
    }
    if (!layer_.empty()) end_layer({});
  }

  [[nodiscard]] bool arm() const { return arm_; }

  std::string archive() {
    config_ = expanded(config_);
    if (oci_) manifest_ = expanded(manifest_);
    for (auto& document : documents_) document = expanded(document);
    if (!oci_) manifest_ = expanded(manifest_);

    Members members;
    std::size_t content_left = kMaxContentBytes;
    for (const auto line : outer_) members.add(expanded(line), content_left);
    archive_ = members.take();
    if (oci_) {
      add_file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
      add_file("index.json", expanded(index_));
      add_blob(manifest_);
    } else {
      add_file("manifest.json", manifest_);
    }
    add_blob(config_);
    for (const auto& document : documents_) add_blob(document);
    for (const auto& layer : layers_) add_file("blobs/sha256/" + digits_of(layer.promised), layer.stored);
    return store(std::move(archive_), whole_).stored;
  }

 private:
  void end_layer(std::string_view how) {
    auto archive = layer_.take();
    if (layers_.size() < kMaxParts) layers_.push_back(store(std::move(archive), how));
  }

  static std::string descriptor(std::string_view kind, std::string_view content) {
    return R"("mediaType":"application/vnd.oci.image.)" + std::string(kind) + R"(","digest":"sha256:)" +
           digits_of(content) + R"(","size":)" + std::to_string(content.size());
  }

  // What stands for a letter in a text, and perhaps a number behind it.
  [[nodiscard]] std::optional<std::string> value_of(char letter, std::size_t number) const {
    const auto* const layer = number < layers_.size() ? &layers_[number] : nullptr;
    const auto* const document = number < documents_.size() ? &documents_[number] : nullptr;
    switch (letter) {
      case 'c':
        return descriptor("config.v1+json", config_);
      case 'C':
        return digits_of(config_);
      case 'm':
        return descriptor("manifest.v1+json", manifest_);
      case 'M':
        return digits_of(manifest_);
      case 'b':
        return document != nullptr ? descriptor("index.v1+json", *document) : std::optional<std::string>();
      case 'B':
        return document != nullptr ? digits_of(*document) : std::optional<std::string>();
      case 'l':
        return layer != nullptr ? descriptor("layer.v1.tar", layer->promised) : std::optional<std::string>();
      case 'L':
        return layer != nullptr ? digits_of(layer->promised) : std::optional<std::string>();
      case 'D':
        return layer != nullptr ? digits_of(layer->unpacked) : std::optional<std::string>();
      case 'd':
      case '*': {
        std::string list;
        for (const auto& each : layers_) {
          if (!list.empty()) list += ',';
          if (letter == 'd') {
            list += "\"sha256:" + digits_of(each.unpacked) + '"';
          } else if (oci_) {
            list += '{' + descriptor("layer.v1.tar", each.promised) + '}';
          } else {
            list += "\"blobs/sha256/" + digits_of(each.promised) + '"';
          }
        }
        return list;
      }
      default:
        return std::nullopt;
    }
  }

  [[nodiscard]] std::string expanded(std::string_view text) const {
    std::string result;
    while (!text.empty() && result.size() < kMaxDocumentBytes) {
      const auto at = text.find('@');
      result += text.substr(0, at);
      if (at == std::string_view::npos) break;
      text.remove_prefix(at + 1);
      const char letter = text.empty() ? '\0' : text.front();
      const bool counted = std::string_view("bBlLD").find(letter) != std::string_view::npos;
      const std::size_t number = counted && text.size() > 1 ? static_cast<unsigned char>(text[1] - '0') : 0;
      const auto value = value_of(letter, number);
      if (!value) {
        result += '@';
        continue;
      }
      result += *value;
      text.remove_prefix(std::min<std::size_t>(text.size(), counted ? 2 : 1));
    }
    return result;
  }

  void add_file(const std::string& name, std::string_view content) {
    Members members;
    std::size_t no_content = 0;
    members.add("=124 " + octal_size(content.size()), no_content);
    members.add("f " + name + " ", no_content);
    archive_ += members.take();
    archive_ += content;
    fill_block(archive_);
  }
  void add_blob(std::string_view content) { add_file("blobs/sha256/" + digits_of(content), content); }

  static std::string octal_size(std::size_t size) {
    char text[16];
    std::snprintf(text, sizeof text, "%011zo", size);
    return text;
  }

  bool oci_;
  bool arm_ = false;
  Members layer_;
  std::vector<Stored> layers_;
  std::vector<std::string_view> outer_;
  std::vector<std::string> documents_;
  std::string config_;
  std::string manifest_;
  std::string index_;
  std::string whole_;
  std::string archive_;
  std::size_t content_left_ = kMaxContentBytes;
};

}  // namespace

ImageArchive archive_of(std::string_view recipe) {
  ImageArchive result;
  auto first = cut(recipe, '\n');
  const auto kind = cut(first, ' ');
  result.wanted = first;
  result.oci = kind == "o" || kind == "O";
  if (kind == "D" || kind == "O" || kind == "R") {
    result.bytes = recipe;
    if (kind == "R") put_checksums_right(result.bytes);
    return result;
  }
  Recipe lines(result.oci);
  lines.read(recipe);
  result.bytes = lines.archive();
  if (lines.arm()) result.architecture = "arm64";
  return result;
}

}  // namespace nitro::fuzz
