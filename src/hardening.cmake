# SPDX-License-Identifier: Apache-2.0
# nitro_hardening: what stands between a fault of ours and whoever feeds us a hostile image, layer, answer or ring. Part of nitro_warnings,
# which every target links privately, so nothing of it reaches those who link our installed libraries. tests/integration/hardening_test.py
# looks for it in every built program.
include(CheckPIESupported)
check_pie_supported()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(nitro_hardening INTERFACE)
# The sanitizers check more, and replace what some of these check with; a stack protector would only speak before them.
if(NITRO_SANITIZE)
  return()
endif()

# Indexes of standard containers, at run time. The binary interface stays the same.
target_compile_definitions(nitro_hardening INTERFACE _GLIBCXX_ASSERTIONS)
target_compile_options(nitro_hardening INTERFACE -fstack-protector-strong -fstack-clash-protection)
# Buffers whose size the compiler knows, at run time too (3). Needs an optimising build; set again, as distributions set it to 2.
target_compile_options(nitro_hardening INTERFACE $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=3>)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64")
  target_compile_options(nitro_hardening INTERFACE -fcf-protection=full)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
  target_compile_options(nitro_hardening INTERFACE -mbranch-protection=standard)
endif()
# Tables of addresses are filled in before main() and read-only from then on; no stack is executable.
target_link_options(nitro_hardening INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
