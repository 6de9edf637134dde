// SPDX-License-Identifier: Apache-2.0
#include "src/yaml/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <optional>
#include <sstream>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/number.h"
#include "src/base/utf8.h"

namespace nitro {
namespace {

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;

std::string place(const std::string& name, const YAML::Mark& mark) {
  return mark.is_null() ? name : fmt::format("{}:{}", name, mark.line + 1);
}

/// Where a document begins; what is in it does not matter.
class DocumentStart final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { mark_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnScalar(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {}
  void OnSequenceStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {}
  void OnMapEnd() override {}

  [[nodiscard]] const YAML::Mark& mark() const { return mark_; }

 private:
  YAML::Mark mark_;
};

/// What follows the first document, if anything does. YAML::LoadAll() would tell, but never returns when a bracket
/// follows that closes nothing: it takes that for document after document.
std::optional<YAML::Mark> after_first_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStart document;
  if (!parser.HandleNextDocument(document) || !parser.HandleNextDocument(document)) return std::nullopt;
  return document.mark();
}

std::string listed(std::span<const std::string_view> words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace

Result<YamlValue> YamlValue::parse(const std::string& text, const std::string& name) {
  const std::string shown = escaped(name);
  if (text.size() > kMaxYamlBytes) {
    return fail(kCode, fmt::format("{}: larger than {} bytes, the limit for this file", shown, kMaxYamlBytes));
  }
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    if (!point.valid || point.value == 0) {
      const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
      return fail(kCode, fmt::format("{}:{}: this is not UTF-8 text", shown, line));
    }
    at += point.size;
  }
  try {
    if (const auto second = after_first_document(text)) {
      const bool marked = std::string_view(text).substr(static_cast<std::size_t>(second->pos)).starts_with("---");
      return fail(kCode, fmt::format("{}: {}", place(shown, *second),
                                     marked ? "there is a second document here; only one is read"
                                            : "what begins here belongs to nothing before it"));
    }
    const YAML::Node root = YAML::Load(text);
    return YamlValue(std::make_shared<Document>(Document{.name = shown}), root, {});
  } catch (const YAML::Exception& fault) {
    return fail(kCode, fmt::format("{}: {}", place(shown, fault.mark), escaped(fault.msg)));
  }
}

Result<YamlValue> YamlValue::load(const std::string& path) {
  NITRO_TRY(const std::string text, read_text_file(path, kMaxYamlBytes));
  return parse(text, path);
}

YamlValue YamlValue::child(const YAML::Node& node, const std::string& key) const {
  return {document_, node, key.empty() ? key_ : key};
}

YamlValue YamlValue::entry(const YAML::Node& key, const YAML::Node& value) const {
  YamlValue result = child(value, key.Scalar());
  // For yaml-cpp, a value that is missing is where the next token begins.
  if (value.IsNull()) result.mark_ = key.Mark();
  return result;
}

Result<void> YamlValue::count() const {
  if (++document_->values <= kMaxYamlValues) return {};
  return fault(fmt::format("the file has more than {} values", kMaxYamlValues));
}

Failure YamlValue::fault(std::string_view what) const {
  const std::string at = place(document_->name, mark_);
  if (key_.empty()) return fail(kCode, fmt::format("{}: {}", at, what));
  return fail(kCode, fmt::format("{}: {}: {}", at, quote(key_), what));
}

Result<std::string> YamlValue::text() const {
  if (!is_scalar()) return fault("must be text");
  return node_.Scalar();
}

Result<std::uint64_t> YamlValue::number(std::uint64_t min, std::uint64_t max) const {
  // Quoted scalars have the tag "!", plain ones "?" (YAML 1.2, section 6.9.1).
  const bool plain = is_scalar() && node_.Tag() != "!";
  const auto value = plain ? parse_number<std::uint64_t>(node_.Scalar()) : std::nullopt;
  if (!value || *value < min || *value > max) {
    return fault(fmt::format("must be a whole number from {} to {}{}", min, max,
                             is_scalar() ? fmt::format(", not {}", quote(node_.Scalar())) : ""));
  }
  return *value;
}

Result<void> YamlValue::for_each_item(const std::function<Result<void>(const YamlValue&)>& visit) const {
  if (!is_list()) return fault("must be a list");
  for (const YAML::Node& item : node_) {
    NITRO_CHECK(count());
    NITRO_CHECK(visit(child(item, {})));
  }
  return {};
}

Result<std::string> YamlValue::unique_key(const YAML::Node& key, std::set<std::string>& seen) const {
  NITRO_CHECK(count());
  if (!key.IsScalar()) return child(key, {}).fault("a key must be text");
  if (!seen.insert(key.Scalar()).second) return child(key, key.Scalar()).fault("this key is here twice");
  return key.Scalar();
}

Result<void> YamlValue::for_each_entry(std::span<const std::string_view> known, const VisitEntry& visit) const {
  if (!is_mapping()) return fault(fmt::format("must be a mapping with the keys {}", listed(known)));
  std::set<std::string> seen;
  for (const auto& pair : node_) {
    NITRO_TRY(const std::string key, unique_key(pair.first, seen));
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return child(pair.first, key).fault(fmt::format("this key is not known here; known keys: {}", listed(known)));
    }
    NITRO_CHECK(visit(key, entry(pair.first, pair.second)));
  }
  return {};
}

Result<void> YamlValue::for_each_entry(const VisitEntry& visit) const {
  if (!is_mapping()) return fault("must be a mapping");
  std::set<std::string> seen;
  for (const auto& pair : node_) {
    NITRO_TRY(const std::string key, unique_key(pair.first, seen));
    NITRO_CHECK(visit(key, entry(pair.first, pair.second)));
  }
  return {};
}

Result<YamlValue> YamlValue::at(std::string_view key) const {
  if (!is_mapping()) return fault("must be a mapping");
  for (const auto& pair : node_) {
    NITRO_CHECK(count());
    if (pair.first.IsScalar() && pair.first.Scalar() == key) return entry(pair.first, pair.second);
  }
  return child(YAML::Node(YAML::NodeType::Null), std::string(key));
}

}  // namespace nitro
