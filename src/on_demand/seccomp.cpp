// SPDX-License-Identifier: Apache-2.0
// The functions of libseccomp that are used.
#include <seccomp.h>

#include <cstdint>

#include "src/on_demand/on_demand.h"

namespace {

const nitro::LibraryOnDemand& library() {
  static const nitro::LibraryOnDemand instance(NITRO_SONAME);
  return instance;
}

}  // namespace

NITRO_PASS_ON(library, scmp_filter_ctx, seccomp_init, (std::uint32_t action), (action))
NITRO_PASS_ON(library, void, seccomp_release, (scmp_filter_ctx filter), (filter))
NITRO_PASS_ON(library, int, seccomp_attr_set, (scmp_filter_ctx filter, scmp_filter_attr attribute, std::uint32_t value),
              (filter, attribute, value))
NITRO_PASS_ON(library, int, seccomp_rule_add_array,
              (scmp_filter_ctx filter, std::uint32_t action, int call, unsigned count, const scmp_arg_cmp* arguments),
              (filter, action, call, count, arguments))
NITRO_PASS_ON(library, int, seccomp_load, (const scmp_filter_ctx filter), (filter))
