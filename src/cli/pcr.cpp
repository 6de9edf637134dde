// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>

#include "nitro/eif/measure.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/cli/commands.h"
#include "src/command/output.h"

namespace nitro::cli {
namespace {

struct Options {
  std::string input;
  std::optional<std::string> signing_certificate;
};

Result<void> pcr(const Options& options) {
  nlohmann::ordered_json json;
  if (options.signing_certificate) {
    NITRO_TRY(const std::string pem, read_text_file(*options.signing_certificate));
    auto value = eif::measure_certificate(pem);
    if (!value) {
      return fail_within(fmt::format("measuring {}", quote(*options.signing_certificate)),
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
  auto* command = application.add_subcommand("pcr", "Computes the PCR of a file");
  auto options = std::make_shared<Options>();
  auto* what = command->add_option_group("what to measure");
  what->add_option("--input", options->input, "Any file: the PCR of its bytes");
  what->add_option("--signing-certificate", options->signing_certificate,
                   "A certificate in PEM form: the PCR8 of enclaves whose image it signs");
  what->require_option(1);
  command->callback([&chosen, options] { chosen = {"File PCR", [options](Context&) { return pcr(*options); }}; });
}

}  // namespace nitro::cli
