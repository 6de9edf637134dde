// SPDX-License-Identifier: Apache-2.0
// libcurl as it is, but for one option, as if it were built without signatures for AWS (--disable-aws).
#include <curl/curl.h>

// The function that passes the call on gets another name. curl.h has a macro that counts the arguments.
#undef curl_easy_setopt
#define curl_easy_setopt complete_curl_easy_setopt
CURLcode complete_curl_easy_setopt(CURL* handle, CURLoption option, ...);
#include "src/on_demand/curl.cpp"
#undef curl_easy_setopt

CURLcode curl_easy_setopt(CURL* handle, CURLoption option, ...) {
  if (option == CURLOPT_AWS_SIGV4) return CURLE_UNKNOWN_OPTION;
  std::va_list arguments;
  va_start(arguments, option);
  void* const value = va_arg(arguments, void*);
  va_end(arguments);
  return complete_curl_easy_setopt(handle, option, value);
}
