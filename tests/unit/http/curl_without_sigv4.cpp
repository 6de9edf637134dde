// SPDX-License-Identifier: Apache-2.0
// libcurl as it is, but for one option, as if it were built without signatures for AWS (--disable-aws). Linked with
// --wrap=curl_easy_setopt, which gives the library's own function its other name (ld(1)).
#include <curl/curl.h>

#include <cstdarg>

// curl.h has a macro that counts the arguments.
#undef curl_easy_setopt

// NOLINTBEGIN(bugprone-reserved-identifier): the linker chooses the names
extern "C" CURLcode __real_curl_easy_setopt(CURL* handle, CURLoption option, ...);

extern "C" CURLcode __wrap_curl_easy_setopt(CURL* handle, CURLoption option, ...) {
  if (option == CURLOPT_AWS_SIGV4) return CURLE_UNKNOWN_OPTION;
  std::va_list arguments;
  va_start(arguments, option);
  void* const value = va_arg(arguments, void*);
  va_end(arguments);
  return __real_curl_easy_setopt(handle, option, value);
}
// NOLINTEND(bugprone-reserved-identifier)
