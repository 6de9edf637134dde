// SPDX-License-Identifier: Apache-2.0
// The functions of libcurl that are used, in the order of its manual.
#include <curl/curl.h>

#include <cstdarg>

#include "src/on_demand/on_demand.h"

namespace {

const nitro::LibraryOnDemand& curl() {
  static const nitro::LibraryOnDemand library(NITRO_SONAME);
  return library;
}

}  // namespace

NITRO_PASS_ON(curl, CURLcode, curl_global_init, (long flags), (flags))
NITRO_PASS_ON(curl, CURL*, curl_easy_init, (), ())
NITRO_PASS_ON(curl, void, curl_easy_cleanup, (CURL * handle), (handle))
NITRO_PASS_ON(curl, curl_version_info_data*, curl_version_info, (CURLversion age), (age))
NITRO_PASS_ON(curl, CURLcode, curl_easy_perform, (CURL * handle), (handle))
NITRO_PASS_ON(curl, curl_header*, curl_easy_nextheader,
              (CURL * handle, unsigned origin, int request, curl_header* previous), (handle, origin, request, previous))
NITRO_PASS_ON(curl, char*, curl_easy_escape, (CURL * handle, const char* text, int size), (handle, text, size))
NITRO_PASS_ON(curl, const curl_easyoption*, curl_easy_option_by_id, (CURLoption option), (option))
NITRO_PASS_ON(curl, const char*, curl_easy_strerror, (CURLcode code), (code))
NITRO_PASS_ON(curl, curl_slist*, curl_slist_append, (curl_slist * list, const char* text), (list, text))
NITRO_PASS_ON(curl, void, curl_slist_free_all, (curl_slist * list), (list))
NITRO_PASS_ON(curl, CURLU*, curl_url, (), ())
NITRO_PASS_ON(curl, void, curl_url_cleanup, (CURLU * url), (url))
NITRO_PASS_ON(curl, CURLUcode, curl_url_set, (CURLU * url, CURLUPart part, const char* text, unsigned flags),
              (url, part, text, flags))
NITRO_PASS_ON(curl, CURLUcode, curl_url_get, (CURLU * url, CURLUPart part, char** text, unsigned flags),
              (url, part, text, flags))
NITRO_PASS_ON(curl, void, curl_free, (void* memory), (memory))

// The one argument of these two is a long, a pointer or a curl_off_t (curl.h, CURLOPTTYPE_ and CURLINFO_): 64 bits on
// every machine that has enclaves, and passed alike.
static_assert(sizeof(long) == sizeof(void*) && sizeof(curl_off_t) == sizeof(void*));

CURLcode(curl_easy_setopt)(CURL* handle, CURLoption option, ...) {
  static auto* const function = curl().find<CURLcode(CURL*, CURLoption, ...)>("curl_easy_setopt");
  std::va_list arguments;
  va_start(arguments, option);
  void* const value = va_arg(arguments, void*);
  va_end(arguments);
  return function(handle, option, value);
}

CURLcode(curl_easy_getinfo)(CURL* handle, CURLINFO info, ...) {
  static auto* const function = curl().find<CURLcode(CURL*, CURLINFO, ...)>("curl_easy_getinfo");
  std::va_list arguments;
  va_start(arguments, info);
  void* const value = va_arg(arguments, void*);
  va_end(arguments);
  return function(handle, info, value);
}
