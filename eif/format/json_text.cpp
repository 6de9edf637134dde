// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>

#include "nitro/eif/metadata.h"

namespace nitro::eif {
namespace {

using Json = nlohmann::ordered_json;

void append_string(std::string& out, const std::string& text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (const auto byte = static_cast<unsigned char>(c); byte < 0x20) {
          out += "\\u00";
          out += kHex[byte >> 4];
          out += kHex[byte & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

template <class T>
void append_integer(std::string& out, T value) {
  char digits[24];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), value).ptr;
  out.append(digits, end);
}

// Writes the shortest digits in the layout of the reference's serializer (Ryu): plain from 1e-5 up to 1e16, else
// d.ddde±x without padding.
void append_double(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char scientific[40];
  const auto end =
      std::to_chars(std::begin(scientific), std::end(scientific), value, std::chars_format::scientific).ptr;
  std::string_view text(scientific, static_cast<std::size_t>(end - scientific));
  if (text.front() == '-') {
    out += '-';
    text.remove_prefix(1);
  }
  const std::size_t e = text.find('e');
  std::string digits(1, text.front());
  if (e > 1) digits += text.substr(2, e - 2);
  int exponent = 0;
  const std::size_t exponent_start = text[e + 1] == '+' ? e + 2 : e + 1;
  std::from_chars(text.data() + exponent_start, text.data() + text.size(), exponent);

  const int length = static_cast<int>(digits.size());
  const int point = value == 0 ? 1 : exponent + 1;  // position of the decimal point, counted from the first digit
  if (point >= length && point <= 16) {
    out += digits;
    out.append(static_cast<std::size_t>(point - length), '0');
    out += ".0";
  } else if (point > 0 && point <= 16) {
    out.append(digits, 0, static_cast<std::size_t>(point));
    out += '.';
    out.append(digits, static_cast<std::size_t>(point));
  } else if (point > -5 && point <= 0) {
    out += "0.";
    out.append(static_cast<std::size_t>(-point), '0');
    out += digits;
  } else {
    out += digits.front();
    if (length > 1) {
      out += '.';
      out.append(digits, 1);
    }
    out += 'e';
    append_integer(out, exponent);
  }
}

void append_line(std::string& out, unsigned indent, unsigned level) {
  if (indent == 0) return;
  out += '\n';
  out.append(std::size_t{indent} * level, ' ');
}

void append(std::string& out, const Json& json, unsigned indent, unsigned level) {
  switch (json.type()) {
    case Json::value_t::object: {
      if (json.empty()) {
        out += "{}";
        return;
      }
      char separator = '{';
      for (const auto& [key, value] : json.get_ref<const Json::object_t&>()) {
        out += separator;
        separator = ',';
        append_line(out, indent, level + 1);
        append_string(out, key);
        out += indent == 0 ? ":" : ": ";
        append(out, value, indent, level + 1);
      }
      append_line(out, indent, level);
      out += '}';
      return;
    }
    case Json::value_t::array: {
      if (json.empty()) {
        out += "[]";
        return;
      }
      char separator = '[';
      for (const Json& value : json) {
        out += separator;
        separator = ',';
        append_line(out, indent, level + 1);
        append(out, value, indent, level + 1);
      }
      append_line(out, indent, level);
      out += ']';
      return;
    }
    case Json::value_t::string:
      append_string(out, json.get_ref<const std::string&>());
      return;
    case Json::value_t::boolean:
      out += json.get<bool>() ? "true" : "false";
      return;
    case Json::value_t::number_integer:
      append_integer(out, json.get<std::int64_t>());
      return;
    case Json::value_t::number_unsigned:
      append_integer(out, json.get<std::uint64_t>());
      return;
    case Json::value_t::number_float:
      append_double(out, json.get<double>());
      return;
    case Json::value_t::null:
    case Json::value_t::binary:
    case Json::value_t::discarded:
      out += "null";
      return;
  }
}

}  // namespace

std::string json_text(const nlohmann::ordered_json& json, unsigned indent) {
  std::string out;
  append(out, json, indent, 0);
  return out;
}

}  // namespace nitro::eif
