// SPDX-License-Identifier: Apache-2.0
#include "src/on_demand/on_demand.h"

#include <dlfcn.h>

#include <stdexcept>

namespace nitro {

LibraryOnDemand::LibraryOnDemand(const char* name) : handle_(::dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) throw std::runtime_error(::dlerror());
}

void* LibraryOnDemand::address_of(const char* name) const {
  void* address = ::dlsym(handle_, name);
  if (address == nullptr) throw std::runtime_error(::dlerror());
  return address;
}

}  // namespace nitro
