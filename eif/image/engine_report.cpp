// SPDX-License-Identifier: Apache-2.0
#include "eif/image/engine_report.h"

#include "eif/image/source.h"
#include "src/base/bytes.h"
#include "src/base/text.h"

namespace nitro::image {

namespace {

// {"status":"Downloading","progressDetail":{"current":3145728,"total":12582912},"id":"4f4fb700ef54"}
std::string progress_line(const nlohmann::ordered_json& step) {
  auto text = text_at(step, "stream");
  if (!text.empty()) return text;
  text = text_at(step, "status");
  if (const auto id = text_at(step, "id"); !id.empty() && !text.empty()) text = id + ": " + text;
  const auto* detail = value_at(step, "progressDetail");
  if (text.empty() || detail == nullptr) return text;
  const auto mib = [detail](const char* key) -> std::string {
    const auto* bytes = value_at(*detail, key);
    if (bytes == nullptr || !bytes->is_number_unsigned()) return {};
    return in_mib(bytes->get<std::uint64_t>());
  };
  if (const auto current = mib("current"); !current.empty()) {
    const auto total = mib("total");
    text += " " + current + (total.empty() ? "" : " of " + total) + " MiB";
  }
  return text;
}

}  // namespace

void EngineReport::take(std::span<const std::byte> bytes) {
  for (const char c : as_text(bytes)) {
    if (c == '\n') {
      take_line();
    } else if (line_.size() < kMaxLineBytes) {
      line_ += c;
    }
  }
}

void EngineReport::end() {
  if (!line_.empty()) take_line();
}

void EngineReport::take_line() {
  const auto json = parse_document(line_, "the engine's answer");
  line_.clear();
  if (!json) return;
  if (auto error = text_at(*json, "error"); !error.empty()) {
    while (error.ends_with('\n')) error.pop_back();
    error_ = std::move(error);
  }
  const bool is_output = !text_at(*json, "stream").empty();
  const auto text = progress_line(*json);
  for (std::string_view rest = text; !rest.empty();) {
    const auto end = rest.find('\n');
    const auto said = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (said.empty()) continue;
    if (listener_) listener_(said);
    if (!is_output) continue;
    printed_.push_back(printable(said.substr(0, kMaxKeptLineBytes)));
    if (printed_.size() > kKeptLines) printed_.pop_front();
  }
}

}  // namespace nitro::image
