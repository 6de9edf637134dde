// SPDX-License-Identifier: Apache-2.0
// The head of a request to vsock-proxy: the same wherever its pieces end, and a host that is one. The first byte says
// how large the pieces are.
#include "fuzz.h"
#include "vsock_proxy/config/host_pattern.h"
#include "vsock_proxy/http_connect/request_head.h"

using nitro::fuzz::require;
using nitro::proxy::RequestHead;
using State = RequestHead::State;

namespace {

/// Takes `bytes` in pieces; returns the state, and how many bytes belong to the head.
std::pair<State, std::size_t> take(RequestHead& head, std::span<const std::byte> bytes, std::size_t piece) {
  State state = State::kIncomplete;
  std::size_t used = 0;
  while (state == State::kIncomplete && used < bytes.size()) {
    const auto next = bytes.subspan(used, std::min(piece, bytes.size() - used));
    used += next.size();
    state = head.take(next);
  }
  if (state == State::kComplete) used -= head.take_rest().size();
  return {state, used};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  RequestHead whole;
  RequestHead pieces;
  const auto [state, used] = take(whole, bytes, bytes.size());
  const auto [state_of_pieces, used_of_pieces] = take(pieces, bytes, std::size_t{1} + data[0]);
  require(state == state_of_pieces);
  if (state != State::kComplete) return 0;
  require(used == used_of_pieces && used <= RequestHead::kMaxBytes);
  require(whole.is_connect() == pieces.is_connect() && whole.host() == pieces.host() && whole.port() == pieces.port() &&
          whole.target() == pieces.target());
  if (whole.is_connect()) {
    require(nitro::proxy::normalized_host(whole.host()) == whole.host() && whole.port() != 0);
  }
  return 0;
}
