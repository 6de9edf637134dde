// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Shared libraries that few commands use, loaded when the first of their functions is called.
///
/// libcurl and libarchive bring 36 libraries into a program that is linked to them, to be loaded and relocated at every
/// start. Without them `nitro-cli --version` takes 3.3 ms of CPU time instead of 8.3 (`perf stat -r 30`), and an
/// enclave process, which lives as long as its enclave and never needs one of them, has 1.1 MB of its own instead
/// of 2.0 (tests/bench/enclaves).
///
/// A target that links nitro_curl, nitro_archive or nitro_lzma instead of the library itself includes the library's
/// headers and calls its functions as ever. They are defined here and pass the call on. A function that is missing here
/// is told by the linker.
namespace nitro {

class LibraryOnDemand {
 public:
  /// `name` is the library's SONAME.
  explicit LibraryOnDemand(const char* name);

  /// The library stays loaded, so the pointer stays valid. Throws std::runtime_error when the library or the function
  /// is missing: the program is not installed as it has to be.
  template <class Function>
  Function* find(const char* name) const {
    // dlsym(3) returns an object pointer where it means a function; POSIX has it so.
    return reinterpret_cast<Function*>(address_of(name));
  }

 private:
  [[nodiscard]] void* address_of(const char* name) const;

  void* handle_;
};

}  // namespace nitro

/// Defines the function `name` with its `parameters`, which calls the function of the same name in `library()` with
/// `arguments`. The parentheses keep macros of that name out.
#define NITRO_PASS_ON(library, result, name, parameters, arguments)           \
  result(name) parameters {                                                   \
    static auto* const function = (library)().find<result parameters>(#name); \
    return function arguments;                                                \
  }
