// SPDX-License-Identifier: Apache-2.0
#include "src/http/proxy.h"

#include <gtest/gtest.h>

#include <map>

#include "temp_folder.h"

namespace nitro::http {
namespace {

using Variables = std::map<std::string, std::string>;

Result<std::optional<Proxy>> proxy_for_url(const std::string& url, const Variables& variables) {
  return proxy_for(
      peer_of(url).value(),
      [&variables](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? std::string() : found->second;
      },
      ErrorCode::kDockerImagePull);
}

// The proxy's URL, "direct", or the message of an error.
std::string way_to(const std::string& url, const Variables& variables) {
  const auto proxy = proxy_for_url(url, variables);
  if (!proxy) return proxy.error().message();
  return *proxy ? (*proxy)->url : "direct";
}

TEST(Proxy, IsNamedByTheVariableOfTheScheme) {
  const Variables both{{"HTTP_PROXY", "http://plain:1"}, {"HTTPS_PROXY", "http://tls:2"}};
  EXPECT_EQ(way_to("http://example.com/", both), "http://plain:1");
  EXPECT_EQ(way_to("https://example.com/", both), "http://tls:2");
  EXPECT_EQ(way_to("https://example.com/", {{"HTTP_PROXY", "http://plain:1"}}), "direct");
  EXPECT_EQ(way_to("https://example.com/", {}), "direct");
  EXPECT_EQ(way_to("https://example.com/", {{"https_proxy", "http://small:3"}}), "http://small:3");
  EXPECT_EQ(way_to("https://example.com/", {{"https_proxy", "http://small:3"}, {"HTTPS_PROXY", "http://large:4"}}),
            "http://large:4");
  EXPECT_EQ(way_to("https://example.com/", {{"ALL_PROXY", "socks5h://all:5"}}), "socks5h://all:5");
  EXPECT_EQ(way_to("https://example.com/", {{"ALL_PROXY", "http://all:5"}, {"https_proxy", "http://tls:2"}}),
            "http://tls:2");
}

TEST(Proxy, IsNeverForThisMachine) {
  const Variables all{
      {"HTTP_PROXY", "http://proxy:1"}, {"HTTPS_PROXY", "http://proxy:1"}, {"ALL_PROXY", "http://proxy:1"}};
  for (const char* host :
       {"localhost", "LOCALHOST", "127.0.0.1", "127.200.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1", "0x7f000001"}) {
    for (const char* scheme : {"http://", "https://"})
      EXPECT_EQ(way_to(scheme + std::string(host) + ":5000/v2/", all), "direct") << host;
  }
  for (const char* host : {"localhost.example.com", "128.0.0.1", "[::2]", "127.example.com"})
    EXPECT_EQ(way_to("http://" + std::string(host) + "/", all), "http://proxy:1") << host;
}

TEST(Proxy, IsNotForWhatNoProxyLists) {
  struct Case {
    const char* list;
    const char* url;
    bool excluded;
  };
  for (const auto& [list, url, excluded] : std::vector<Case>{
           {"*", "http://a.b/", true},
           {"x, * ,y", "http://a.b/", true},
           {"example.com", "http://example.com/", true},
           {"example.com", "http://EXAMPLE.com/", true},
           {"EXAMPLE.COM", "http://example.com/", true},
           {"example.com", "http://www.example.com/", true},
           {"example.com", "http://anexample.com/", false},
           {"example.com", "http://example.com.evil.net/", false},
           {".example.com", "http://www.example.com/", true},
           {".example.com", "http://example.com/", false},
           {"*.example.com", "http://www.example.com/", true},
           {"*.example.com", "http://example.com/", false},
           {"example.com:80", "http://example.com/", true},
           {"example.com:80", "http://example.com:8080/", false},
           {"example.com:443", "https://example.com/", true},
           {"a.b,example.com , c.d", "http://example.com/", true},
           {",,", "http://example.com/", false},
           {":80", "http://example.com/", false},
           {"10.0.0.1", "http://10.0.0.1/", true},
           {"10.0.0.1", "http://10.0.0.10/", false},
           {"10.0.0.1:80", "http://10.0.0.1:81/", false},
           {"10.0.0.0/8", "http://10.200.3.4:5000/", true},
           {"10.0.0.0/8", "http://11.0.0.1/", false},
           {"10.32.0.0/11", "http://10.63.255.255/", true},
           {"10.32.0.0/11", "http://10.64.0.0/", false},
           {"0.0.0.0/0", "http://8.8.8.8/", true},
           {"10.0.0.0/8", "http://10.example.com/", false},
           {"10.0.0.0/33", "http://10.0.0.1/", false},
           {"10.0.0.0/4294967295", "http://10.0.0.1/", false},
           {"10.0.0.0/", "http://10.0.0.1/", false},
           {"10.0.0.0/x", "http://10.0.0.1/", false},
           {"fd00::/8", "http://[fd12::1]/", true},
           {"fd00::/8", "http://[fe00::1]/", false},
           {"fd00::1", "http://[fd00:0::1]/", true},
           {"[fd00::1]:80", "http://[fd00::1]/", true},
           {"[fd00::1]:80", "http://[fd00::1]:81/", false},
           {"[fd00::1", "http://[fd00::1]/", false},
           {"10.0.0.1", "http://[::ffff:10.0.0.1]/", true},
       }) {
    for (const char* name : {"NO_PROXY", "no_proxy"}) {
      const Variables variables{{"HTTP_PROXY", "http://proxy:1"}, {"HTTPS_PROXY", "http://proxy:1"}, {name, list}};
      EXPECT_EQ(way_to(url, variables), excluded ? "direct" : "http://proxy:1") << list << " for " << url;
    }
  }
}

TEST(Proxy, HasTheUsualPortOfItsScheme) {
  for (const auto& [value, url] : std::vector<std::pair<const char*, const char*>>{
           {"proxy", "http://proxy:80"},
           {"proxy:3128", "http://proxy:3128"},
           {"HTTP://proxy/", "http://proxy:80"},
           {"https://proxy", "https://proxy:443"},
           {"socks5://proxy", "socks5://proxy:1080"},
           {"http://[fd00::1]:3128", "http://[fd00::1]:3128"},
       }) {
    EXPECT_EQ(way_to("https://example.com/", {{"HTTPS_PROXY", value}}), url);
  }
}

TEST(Proxy, KeepsItsLoginApartFromItsUrl) {
  for (const char* value : {"http://me:p%40ss%3A@proxy:3128", "me:p%40ss%3A@proxy:3128"}) {
    const auto proxy = proxy_for_url("https://example.com/", {{"HTTPS_PROXY", value}});
    ASSERT_OK(proxy);
    ASSERT_TRUE(*proxy);
    EXPECT_EQ((*proxy)->url, "http://proxy:3128");
    EXPECT_EQ((*proxy)->variable, "HTTPS_PROXY");
    EXPECT_EQ((*proxy)->user, "me");
    EXPECT_EQ((*proxy)->password.text(), "p@ss:");
  }
}

TEST(Proxy, ThatIsNotUnderstoodIsRefusedWithoutItsLogin) {
  for (const char* value :
       {"ftp://me:hush@proxy", "http://me:hush@", "http://me:hush@proxy:99999", "http://me:hush@pro xy"}) {
    const auto proxy = proxy_for_url("https://example.com/", {{"HTTPS_PROXY", value}});
    ASSERT_FALSE(proxy) << value;
    EXPECT_NE(proxy.error().message().find("HTTPS_PROXY"), std::string::npos);
    EXPECT_EQ(proxy.error().message().find("hush"), std::string::npos);
  }
}

TEST(Proxy, IsNotTakenFromAVisitorOfAWebServer) {
  const Variables cgi{{"HTTP_PROXY", "http://evil:1"}, {"HTTPS_PROXY", "http://tls:2"}, {"REQUEST_METHOD", "GET"}};
  EXPECT_FALSE(proxy_for_url("http://example.com/", cgi));
  EXPECT_EQ(way_to("https://example.com/", cgi), "http://tls:2");
  EXPECT_EQ(way_to("http://localhost/", cgi), "direct");
}

}  // namespace
}  // namespace nitro::http
