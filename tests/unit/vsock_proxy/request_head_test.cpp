// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/http_connect/request_head.h"

#include <gtest/gtest.h>

#include "src/base/bytes.h"

namespace nitro::proxy {
namespace {

using State = RequestHead::State;

State take(RequestHead& head, std::string_view text) {
  return head.take(as_bytes(text));
}

TEST(RequestHead, NamesHostAndPort) {
  RequestHead head;
  ASSERT_EQ(take(head, "CONNECT KMS.Example.:443 HTTP/1.1\r\nHost: kms.example\r\n\r\nrest"), State::kComplete);
  EXPECT_TRUE(head.is_connect());
  EXPECT_EQ(head.host(), "kms.example");
  EXPECT_EQ(head.port(), 443);
  const auto rest = head.take_rest();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(rest.data()), rest.size()), "rest");
}

TEST(RequestHead, MayArriveByteByByte) {
  const std::string text = "CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nUser-Agent: x\r\n\r\n";
  RequestHead head;
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    ASSERT_EQ(take(head, text.substr(i, 1)), State::kIncomplete) << i;
  }
  ASSERT_EQ(take(head, text.substr(text.size() - 1)), State::kComplete);
  EXPECT_EQ(head.host(), "2001:db8::1");
  EXPECT_EQ(head.port(), 8443);
  EXPECT_TRUE(head.take_rest().empty());
}

TEST(RequestHead, KeepsWhatFollowsItWhereverThePiecesEnd) {
  const std::string text = "CONNECT a.example:1 HTTP/1.1\r\n\r\n\r\n\n\x16\x03";
  const std::size_t end = text.find("\r\n\r\n") + 4;
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    RequestHead head;
    std::size_t used = cut;
    State state = take(head, text.substr(0, cut));
    if (state == State::kIncomplete) {
      used = text.size();
      state = take(head, text.substr(cut));
    }
    ASSERT_EQ(state, State::kComplete) << cut;
    const auto rest = head.take_rest();
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(rest.data()), rest.size()), text.substr(end, used - end))
        << cut;
  }
}

TEST(RequestHead, IsMalformedWithoutAHostAndAPort) {
  for (const char* target : {"a.example", "a.example:", "a.example:0", "a.example:65536", "a.example:x", ":443",
                             "http://a.example:443", "a.example:443/x", "user@a.example:443", "2001:db8::1:443",
                             "[a.example]:443", "[10.0.0.1]:443", "0x7f.1:443", "a..b:443", "/"}) {
    RequestHead head;
    EXPECT_EQ(take(head, std::string("CONNECT ") + target + " HTTP/1.1\r\n\r\n"), State::kMalformed) << target;
  }
  for (const char* text : {"\x16\x03\x01\x02", "GET\r\n\r\n", "CONNECT a:1 SMTP/1.1\r\n\r\n",
                           "CONNECT a:1 HTTP/1.1\r\nx\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"}) {
    RequestHead head;
    EXPECT_EQ(take(head, text), State::kMalformed) << text;
  }
}

TEST(RequestHead, HasASizeLimit) {
  const std::string begin = "CONNECT a:1 HTTP/1.1\r\nX: ";
  const std::string end = "\r\n\r\n";
  RequestHead fits;
  EXPECT_EQ(take(fits, begin + std::string(RequestHead::kMaxBytes - begin.size() - end.size(), 'a') + end),
            State::kComplete);
  RequestHead too_large;
  EXPECT_EQ(take(too_large, begin + std::string(RequestHead::kMaxBytes, 'a')), State::kTooLarge);
}

TEST(RequestHead, OfAnotherMethodHasATarget) {
  RequestHead head;
  ASSERT_EQ(take(head, "GET /metrics HTTP/1.0\r\n\r\n"), State::kComplete);
  EXPECT_TRUE(head.is_get());
  EXPECT_FALSE(head.is_connect());
  EXPECT_EQ(head.target(), "/metrics");
}

}  // namespace
}  // namespace nitro::proxy
