// SPDX-License-Identifier: Apache-2.0
// A program that knows nothing of the stand-in, with a C++ library of its own inside: succeeds when the stand-in is in
// force.
#include <fcntl.h>
#include <linux/nitro_enclaves.h>
#include <sys/ioctl.h>

#include <fstream>
#include <iostream>
#include <string>

int main() {
  std::string pool;
  std::getline(std::ifstream("/sys/module/nitro_enclaves/parameters/ne_cpus"), pool);
  const int device = ::open("/dev/nitro_enclaves", O_RDWR | O_CLOEXEC);
  __u64 uid = 0;
  const int enclave = ::ioctl(device, NE_CREATE_VM, &uid);
  std::cout << "pool " << pool << ", device " << device << ", enclave " << enclave << "\n";
  return pool == "6-7" && device >= 0 && enclave >= 0 && uid != 0 ? 0 : 1;
}
