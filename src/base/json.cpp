// SPDX-License-Identifier: Apache-2.0
#include "src/base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/text.h"

namespace nitro {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kOutOfRange = "a number in the JSON is out of range";

// Returns the double nearest to 10^exponent; exponent is in [0, 308].
double power_of_ten(int exponent) {
  const std::string text = fmt::format("1e{}", exponent);
  double power = 0;
  std::from_chars(text.data(), text.data() + text.size(), power);
  return power;
}

// Accumulates digits in 64 bits as long as they fit.
struct Significand {
  std::uint64_t value = 0;
  bool full = false;

  bool take(char digit) {
    const auto added = static_cast<std::uint64_t>(digit - '0');
    full = full || value > (std::numeric_limits<std::uint64_t>::max() - added) / 10;
    if (!full) value = value * 10 + added;
    return !full;
  }
};

// Returns the value of a JSON number as serde_json computes it without its feature "float_roundtrip": the leading
// digits, as many as 64 bits hold, multiplied or divided by a power of ten, with both values rounded. The result is
// sometimes one unit in the last place off the nearest double, but images must be identical to the reference's. `text`
// is valid. Returns nullopt when the value is out of range.
std::optional<double> rounded_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  std::size_t at = negative ? 1 : 0;
  const auto digit_follows = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };

  Significand significand;
  std::int64_t exponent = 0;
  for (; digit_follows(); ++at) exponent += significand.take(text[at]) ? 0 : 1;
  if (at < text.size() && text[at] == '.') {
    significand.full = false;
    for (++at; digit_follows(); ++at) exponent -= significand.take(text[at]) ? 1 : 0;
  }
  if (at < text.size()) {
    ++at;  // the 'e'
    const bool negative_exponent = text[at] == '-';
    if (text[at] == '-' || text[at] == '+') ++at;
    std::int32_t given = 0;
    if (std::from_chars(text.data() + at, text.data() + text.size(), given).ec == std::errc::result_out_of_range) {
      if (significand.value != 0 && !negative_exponent) return std::nullopt;
      return negative ? -0.0 : 0.0;
    }
    exponent += negative_exponent ? -std::int64_t{given} : std::int64_t{given};
  }

  constexpr int kMaxPower = std::numeric_limits<double>::max_exponent10;
  auto value = static_cast<double>(significand.value);
  for (; value != 0 && exponent < -kMaxPower; exponent += kMaxPower) value /= power_of_ten(kMaxPower);
  if (value != 0) {
    if (exponent > kMaxPower) return std::nullopt;
    const double power = power_of_ten(static_cast<int>(std::abs(exponent)));
    value = exponent < 0 ? value / power : value * power;
    if (std::isinf(value)) return std::nullopt;
  }
  return negative ? -value : value;
}

struct Member {
  std::string name;
  Json value;
};

// Of members with the same name the last value counts, at the place of the first. Equal names are found by sorting:
// Json's own insertion searches for each name, which takes minutes for an object that fills a megabyte.
Json object_of(std::vector<Member> members) {
  std::vector<std::size_t> by_name(members.size());
  std::iota(by_name.begin(), by_name.end(), std::size_t{0});
  std::sort(by_name.begin(), by_name.end(), [&members](std::size_t a, std::size_t b) {
    const int order = members[a].name.compare(members[b].name);
    return order != 0 ? order < 0 : a < b;
  });
  std::vector<bool> repeated(members.size());
  for (std::size_t i = 1, first = 0; i < by_name.size(); ++i) {
    Member& earlier = members[by_name[first]];
    Member& later = members[by_name[i]];
    if (earlier.name != later.name) {
      first = i;
      continue;
    }
    earlier.value = std::move(later.value);
    repeated[by_name[i]] = true;
  }
  Json json = Json::object();
  auto& object = json.get_ref<Json::object_t&>();
  // Reserved once, as a growing Json object copies all its members.
  object.reserve(members.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (!repeated[i]) object.emplace_back(std::move(members[i].name), std::move(members[i].value));
  }
  return json;
}

Json array_of(std::vector<Json> elements) {
  Json json = Json::array();
  json.get_ref<Json::array_t&>() = std::move(elements);
  return json;
}

// Builds the value, with the reference's numbers, and stops at the first error or exceeded limit.
class Builder : public nlohmann::json_sax<Json> {
 public:
  [[nodiscard]] Json take() && { return std::move(root_); }
  // Why the text was rejected.
  [[nodiscard]] const std::string& refusal() const { return refusal_; }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return value == 0 ? add(-0.0) : add(value); }
  bool number_float(double, const std::string& text) override {
    const auto value = rounded_number(text);
    return value ? add(*value) : refuse(kOutOfRange);
  }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return refuse("JSON has no binary values"); }
  bool start_object(std::size_t) override { return open(); }
  bool key(std::string& name) override {
    open_.back().members.push_back({.name = std::move(name), .value = nullptr});
    return true;
  }
  bool end_object() override { return add(object_of(close().members)); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return add(array_of(close().elements)); }
  bool parse_error(std::size_t byte, const std::string&, const Json::exception& error) override {
    if (dynamic_cast<const Json::out_of_range*>(&error) != nullptr) return refuse(kOutOfRange);
    return refuse(fmt::format("the text is no valid JSON at byte {}", byte));
  }

 private:
  // An object or array under construction. The last member of an object waits for its value.
  struct Container {
    std::vector<Member> members;
    std::vector<Json> elements;
  };

  bool add(Json value) {
    if (++values_ > kMaxJsonValues) return refuse(fmt::format("the JSON has more than {} values", kMaxJsonValues));
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (!open_.back().members.empty()) {
      open_.back().members.back().value = std::move(value);
    } else {
      open_.back().elements.push_back(std::move(value));
    }
    return true;
  }
  bool open() {
    if (open_.size() == kMaxJsonDepth)
      return refuse(fmt::format("the JSON is nested deeper than {} levels", kMaxJsonDepth));
    open_.emplace_back();
    return true;
  }
  Container close() {
    Container closed = std::move(open_.back());
    open_.pop_back();
    return closed;
  }
  bool refuse(std::string why) {
    refusal_ = std::move(why);
    return false;
  }

  Json root_;
  std::vector<Container> open_;  // from the root inwards
  std::size_t values_ = 0;
  std::string refusal_;
};

}  // namespace

Result<nlohmann::ordered_json> parse_json(std::string_view text, ErrorCode code) {
  if (text.size() > kMaxJsonBytes) return fail(code, fmt::format("the JSON has more than {} bytes", kMaxJsonBytes));
  if (has_byte_order_mark(text)) return fail(code, "the JSON begins with a byte order mark; save it without one");
  Builder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return fail(code, builder.refusal());
  return std::move(builder).take();
}

nlohmann::ordered_json with_sorted_keys(const nlohmann::ordered_json& json) {
  // basic_json keeps objects in a std::map, which sorts strings by their bytes.
  return nlohmann::ordered_json(nlohmann::json(json));
}

const nlohmann::ordered_json* value_at(const nlohmann::ordered_json& json, std::string_view key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::ordered_json* array_at(const nlohmann::ordered_json& json, std::string_view key) {
  const auto* value = value_at(json, key);
  return value != nullptr && value->is_array() ? value : nullptr;
}

std::string text_at(const nlohmann::ordered_json& json, std::string_view key) {
  const auto* value = value_at(json, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

}  // namespace nitro
