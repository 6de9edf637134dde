// SPDX-License-Identifier: Apache-2.0
#include "src/http/http.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>

#include "temp_folder.h"

namespace nitro::http {
namespace {

using nitro::testing::ScopedEnvironment;

// Nobody listens at this port: it is reserved (tcpmux), and a request that gets this far fails with another message.
constexpr const char* kNobody = "http://127.0.0.1:1/";

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Request request_to(std::string url) {
  Request request;
  request.url = std::move(url);
  return request;
}

std::string refusal(const Request& request) {
  const auto answer = send(request);
  return answer ? "an answer" : answer.error().message();
}

TEST(Http, SendsNoHeaderWithALineBreakInIt) {
  for (const auto& line : {std::string("A: b\r\nEvil: 1"), std::string("A: b\nEvil: 1"), std::string("A: b\r"),
                           std::string("A: b\0c", 6)}) {
    auto request = request_to(kNobody);
    request.headers = {line};
    EXPECT_PRED2(contains, refusal(request), "line break");
    request.headers.clear();
    request.secret_headers = {Secret(line)};
    EXPECT_PRED2(contains, refusal(request), "line break");
  }
}

TEST(Http, IsInTheClearOnThisMachineOnlyWhereThatIsAskedFor) {
  auto request = request_to("http://192.0.2.1/");  // an address that is never given to anybody (RFC 5737)
  request.insecure_http = false;
  EXPECT_PRED2(contains, refusal(request), "plain HTTP is for this machine only");
  request.url = kNobody;
  EXPECT_FALSE(contains(refusal(request), "plain HTTP"));
}

TEST(Http, NamesTheProxyThatFailsWithoutItsPassword) {
  const ScopedEnvironment proxy("HTTPS_PROXY", "http://me:hush@127.0.0.1:1");
  const ScopedEnvironment none("NO_PROXY", nullptr);
  const ScopedEnvironment none_either("no_proxy", nullptr);
  const auto said = refusal(request_to("https://registry.example.com/v2/"));
  EXPECT_PRED2(contains, said, "through the proxy http://127.0.0.1:1 of HTTPS_PROXY");
  EXPECT_FALSE(contains(said, "hush")) << said;
}

TEST(Http, GoesToThisMachineWithoutAProxy) {
  const ScopedEnvironment proxy("HTTP_PROXY", "http://127.0.0.1:2");
  EXPECT_FALSE(contains(refusal(request_to(kNobody)), "proxy"));
}

TEST(Peer, IsWhomARequestGoesTo) {
  EXPECT_EQ(peer_of("https://A.example.com/x"), (Peer{"https", "a.example.com", "443"}));
  EXPECT_EQ(peer_of("http://[::1]:5000/x"), (Peer{"http", "::1", "5000"}));
  EXPECT_EQ(peer_of("https://me:hush@c/"), (Peer{"https", "c", "443"}));
  EXPECT_FALSE(peer_of("https://a b/"));
  EXPECT_FALSE(peer_of("https://a\r\nb/"));
}

TEST(Url, EscapesWhatQueriesMayNotHold) {
  EXPECT_EQ(url_encoded("a/b:1 ü~"), "a%2Fb%3A1%20%C3%BC~");
  EXPECT_EQ(url_encoded(std::string_view("a\0b", 3)), "a%00b");
  EXPECT_EQ(url_encoded(std::string_view("ab", 0)), "");
}

TEST(Secret, LeavesNothingOfAShortTextWhereItWasMovedFrom) {
  for (const char* text : {"short", "a text that is too long to lie inside of the string itself"}) {
    std::string source = text;
    const Secret secret(std::move(source));
    EXPECT_EQ(secret.text(), text);
    // A short text lay inside of the string itself.
    EXPECT_EQ(std::string_view(source.data(), source.capacity()).find("hort"), std::string_view::npos);
  }
}

}  // namespace
}  // namespace nitro::http
