# SPDX-License-Identifier: Apache-2.0
# nitro_hardening: mitigations for the case that a bug of ours meets a hostile image, layer, answer or ring. Part of
# nitro_warnings, which every target links privately, so users of our installed libraries get none of it.
# tests/integration/hardening_test.py checks every built program for it.
include(CheckPIESupported)
check_pie_supported()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(nitro_hardening INTERFACE)
# The sanitizers check more, and replace some of these checks; a stack protector would only report before they do.
if(NITRO_SANITIZE)
  return()
endif()

# Run-time checks of indexes into standard containers. They do not change the ABI.
target_compile_definitions(nitro_hardening INTERFACE _GLIBCXX_ASSERTIONS)
target_compile_options(nitro_hardening INTERFACE -fstack-protector-strong -fstack-clash-protection)
# Run-time checks of buffers whose size the compiler knows (level 3). Needs an optimised build; unset first, as
# distributions set it to 2.
target_compile_options(nitro_hardening INTERFACE $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=3>)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64")
  target_compile_options(nitro_hardening INTERFACE -fcf-protection=full)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
  target_compile_options(nitro_hardening INTERFACE -mbranch-protection=standard)
endif()
# Address tables are filled in before main() and then made read-only; no stack is executable.
target_link_options(nitro_hardening INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
