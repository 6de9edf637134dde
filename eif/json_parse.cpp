// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nitro/eif/metadata.h"
#include "nitro/text.h"

namespace nitro::eif {
namespace {

using Json = nlohmann::json;

constexpr const char* kOutOfRange = "a number in the JSON is out of range";

// The double next to 10^exponent; exponent is in [0, 308].
double power_of_ten(int exponent) {
  const std::string text = fmt::format("1e{}", exponent);
  double power = 0;
  std::from_chars(text.data(), text.data() + text.size(), power);
  return power;
}

// Digits taken into 64 bits for as long as they fit.
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

// The value of a number of JSON as serde_json gives it without its feature "float_roundtrip": the first digits, as many
// as 64 bits hold, times or divided by a power of ten, both rounded. That is at times one unit in the last place beside
// the nearest double, and images are to be the same as the reference's. `text` is valid. Nothing when it is out of
// range.
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

// Builds the value, with the reference's numbers, and stops where the text is at fault or too deep.
class Builder : public nlohmann::json_sax<Json> {
 public:
  [[nodiscard]] Json& json() { return root_; }
  // Why the text was not taken.
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
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool key(std::string& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t byte, const std::string&, const Json::exception& error) override {
    if (dynamic_cast<const nlohmann::json::out_of_range*>(&error) != nullptr) return refuse(kOutOfRange);
    return refuse("the text is no valid JSON at byte " + std::to_string(byte));
  }

 private:
  Json& place(Json value) {
    if (open_.empty()) return root_ = std::move(value);
    if (open_.back()->is_array()) return open_.back()->emplace_back(std::move(value));
    return (*open_.back())[key_] = std::move(value);
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json container) {
    // What recurses over the value later (writing, comparing) must not be at the mercy of the text.
    if (open_.size() == kMaxJsonDepth)
      return refuse("the JSON is nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
    open_.push_back(&place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool refuse(std::string why) {
    refusal_ = std::move(why);
    return false;
  }

  Json root_;
  std::vector<Json*> open_;  // from the root to the container that is being filled; none of them moves meanwhile
  std::string key_;
  std::string refusal_;
};

}  // namespace

Result<nlohmann::ordered_json> parse_json(std::string_view text, ErrorCode code) {
  if (has_byte_order_mark(text)) return fail(code, "the JSON begins with a byte order mark; save it without one");
  Builder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return fail(code, builder.refusal());
  return nlohmann::ordered_json(builder.json());
}

}  // namespace nitro::eif
