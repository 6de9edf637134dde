// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <string>
#include <utility>

namespace nitro {

/// Owns a text that nobody may find later: a private key, a password, a token. It is overwritten when its owner goes
/// or takes another one. What was copied out of it, into a library for instance, is out of its reach; so is a text of
/// fewer than 16 characters that lay in the string it was made from.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept : text_(std::move(other.text_)) { other.wipe(); }
  Secret& operator=(Secret other) noexcept {
    text_.swap(other.text_);
    return *this;
  }
  ~Secret() { wipe(); }

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] bool empty() const { return text_.empty(); }

 private:
  void wipe() { ::explicit_bzero(text_.data(), text_.size()); }

  std::string text_;
};

}  // namespace nitro
