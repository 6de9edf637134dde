// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "nitro/result.h"

/// Reads configuration files in YAML. A fault is reported with file, line and, within a mapping, the key:
/// `FILE:LINE: "KEY": what is wrong`. Errors of all functions: kInvalidArgument, and kFileOperation when a file cannot
/// be read.
namespace nitro {

/// Limits of a file: its bytes, and the values read from it. An alias counts each time it is used, so a small file
/// cannot expand without end.
inline constexpr std::size_t kMaxYamlBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxYamlValues = std::size_t{1} << 16;

/// A value in a document. Cheap to copy; it keeps the document alive.
class YamlValue {
 public:
  /// Parses the one document of `text`; `name` is the file's name in messages. No document, or an empty one, is null.
  static Result<YamlValue> parse(const std::string& text, const std::string& name);
  static Result<YamlValue> load(const std::string& path);

  [[nodiscard]] bool is_null() const { return node_.IsNull(); }
  [[nodiscard]] bool is_list() const { return node_.IsSequence(); }
  [[nodiscard]] bool is_mapping() const { return node_.IsMap(); }
  [[nodiscard]] bool is_scalar() const { return node_.IsScalar(); }

  /// Scalars; `max` is inclusive. A number in quotes is text, not a number.
  [[nodiscard]] Result<std::string> text() const;
  [[nodiscard]] Result<std::uint64_t> number(std::uint64_t min, std::uint64_t max) const;

  /// Calls `visit` for each item, until it fails.
  Result<void> for_each_item(const std::function<Result<void>(const YamlValue&)>& visit) const;
  using VisitEntry = std::function<Result<void>(const std::string& key, const YamlValue& value)>;
  /// Calls `visit` for each entry of a mapping, until it fails. Only the keys in `known` are allowed, each once.
  Result<void> for_each_entry(std::span<const std::string_view> known, const VisitEntry& visit) const;
  Result<void> for_each_entry(std::initializer_list<std::string_view> known, const VisitEntry& visit) const {
    return for_each_entry(std::span(known.begin(), known.size()), visit);
  }
  /// The same for a mapping whose keys may be anything, each once.
  Result<void> for_each_entry(const VisitEntry& visit) const;
  /// The value at `key`, or null; other keys may be anything.
  [[nodiscard]] Result<YamlValue> at(std::string_view key) const;

  /// A fault of this value.
  [[nodiscard]] Failure fault(std::string_view what) const;

 private:
  struct Document {
    std::string name;
    std::size_t values = 0;  // read so far
  };
  YamlValue(std::shared_ptr<Document> document, const YAML::Node& node, std::string key)
      : document_(std::move(document)), node_(node), mark_(node.Mark()), key_(std::move(key)) {}
  [[nodiscard]] YamlValue child(const YAML::Node& node, const std::string& key) const;
  [[nodiscard]] YamlValue entry(const YAML::Node& key, const YAML::Node& value) const;
  [[nodiscard]] Result<void> count() const;
  [[nodiscard]] Result<std::string> unique_key(const YAML::Node& key, std::set<std::string>& seen) const;

  std::shared_ptr<Document> document_;
  YAML::Node node_;
  YAML::Mark mark_;
  std::string key_;  // the nearest key above, for messages
};

}  // namespace nitro
