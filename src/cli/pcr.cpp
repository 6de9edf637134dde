// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>

#include <iostream>

#include "nitro/bytes.h"
#include "nitro/eif/measure.h"
#include "nitro/fd.h"
#include "src/cli/command.h"
#include "src/cli/output.h"

namespace nitro::cli {
namespace {

struct Options {
  std::string input;
  std::string signing_certificate;
};

Result<void> pcr(const Options& options) {
  nlohmann::ordered_json json;
  if (!options.signing_certificate.empty()) {
    NITRO_TRY(const std::string pem, read_text_file(options.signing_certificate));
    auto value = eif::measure_certificate(pem);
    if (!value) {
      return fail_within(fmt::format("measuring {}", quote(options.signing_certificate)),
                         std::move(value).error().as(ErrorCode::kHasher));
    }
    json["PCR8"] = to_hex(*value);
  } else {
    NITRO_TRY(const Fd fd, open_file(options.input, O_RDONLY));
    auto value = eif::measure_stream(fd.get());
    if (!value) return fail_within(fmt::format("measuring {}", quote(options.input)), std::move(value).error());
    json["PCR"] = to_hex(*value);
  }
  print_json(std::cout, json);
  return {};
}

}  // namespace

void add_pcr(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("pcr", "Return the PCR hash value of the given input");
  auto options = std::make_shared<Options>();
  auto* what = command->add_option_group("what to measure");
  what->add_option("--input", options->input, "Given a path to a file, returns the PCR hash of the bytes it contains");
  what->add_option("--signing-certificate", options->signing_certificate,
                   "Takes the path to the '.pem' signing certificate and returns PCR8. Can be used to identify the "
                   "certificate used to "
                   "sign an EIF");
  what->require_option(1);
  command->callback([&chosen, options] { chosen = {"File PCR", [options](Context&) { return pcr(*options); }}; });
}

}  // namespace nitro::cli
