// SPDX-License-Identifier: Apache-2.0
// The functions of liblzma that are used, by name.
#include <lzma.h>

#include "src/on_demand/on_demand.h"

namespace {

const nitro::LibraryOnDemand& library() {
  static const nitro::LibraryOnDemand instance(NITRO_SONAME);
  return instance;
}

}  // namespace

NITRO_PASS_ON(library, lzma_ret, lzma_code, (lzma_stream * stream, lzma_action action), (stream, action))
NITRO_PASS_ON(library, void, lzma_end, (lzma_stream * stream), (stream))
NITRO_PASS_ON(library, lzma_ret, lzma_stream_decoder, (lzma_stream * stream, uint64_t limit, uint32_t flags),
              (stream, limit, flags))
