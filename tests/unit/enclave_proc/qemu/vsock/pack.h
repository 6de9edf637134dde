// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

namespace nitro::proc::testing {

/// The bytes of `fields`, one after the other: the payload of a vhost-user message, which is in the machine's byte
/// order.
template <class... Fields>
std::vector<std::byte> pack(Fields... fields) {
  std::vector<std::byte> bytes((sizeof(fields) + ... + 0));
  std::byte* end = bytes.data();
  const auto add = [&end](const auto& field) {
    std::memcpy(end, &field, sizeof field);
    end += sizeof field;
  };
  (add(fields), ...);
  return bytes;
}

}  // namespace nitro::proc::testing
