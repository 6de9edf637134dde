// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace nitro::fuzz {

/// A member of a ramdisk, read as a kernel reads it.
struct CpioFile {
  std::string_view name;
  std::uint32_t mode = 0;  ///< with the bits of its type
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::string_view content;
};

/// The members of a ramdisk ("newc") up to its trailer. Whatever does not hold together in it is a finding.
inline std::vector<CpioFile> read_cpio(std::string_view archive) {
  std::vector<CpioFile> files;
  const auto whole = archive.size();
  require(whole % 512 == 0);
  std::size_t at = 0;
  const auto take = [&](std::size_t size) {
    require(size <= whole - at);
    at += size;
    return archive.substr(at - size, size);
  };
  const auto pass_padding = [&] {
    while (at % 4 != 0) require(take(1) == std::string_view("\0", 1));
  };
  for (std::uint32_t inode = 721;; ++inode) {
    require(take(6) == "070701");
    std::uint32_t numbers[13];
    for (std::size_t i = 0; i < 13; ++i) {
      auto digits = take(8);
      // A time before 1970 has a sign.
      if (i == 5 && digits.starts_with('-')) digits.remove_prefix(1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), numbers[i], 16);
      require(error == std::errc() && end == digits.data() + digits.size());
    }
    require(numbers[0] == inode && numbers[11] > 0);
    CpioFile file;
    file.mode = numbers[1];
    file.uid = numbers[2];
    file.gid = numbers[3];
    file.device_major = numbers[9];
    file.device_minor = numbers[10];
    file.name = take(numbers[11]);
    require(file.name.ends_with('\0'));
    file.name.remove_suffix(1);
    require(file.name.find('\0') == std::string_view::npos);
    pass_padding();
    file.content = take(numbers[6]);
    if (file.name == "TRAILER!!!") {
      require(file.content.empty() && archive.find_first_not_of('\0', at) == std::string_view::npos);
      return files;
    }
    pass_padding();
    files.push_back(file);
  }
}

}  // namespace nitro::fuzz
