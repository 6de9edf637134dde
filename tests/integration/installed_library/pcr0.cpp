// SPDX-License-Identifier: Apache-2.0
// Prints PCR0 of the image named on the command line.
#include <nitro/eif/describe_json.h>
#include <nitro/eif/reader.h>
#include <nitro/eif/writer.h>

#include <iostream>
#include <string>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto description = nitro::eif::describe(argv[1]);
  if (!description) {
    std::cerr << description.error().message() << '\n';
    return 1;
  }
  std::cout << nitro::eif::to_json(description->measurements).at("PCR0").get<std::string>() << '\n';
}
