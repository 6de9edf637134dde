// SPDX-License-Identifier: Apache-2.0
#include "src/cli/enclave_output.h"

#include <fmt/format.h>

#include <cerrno>
#include <iostream>

#include "src/base/bytes.h"
#include "src/base/json.h"
#include "src/base/text.h"
#include "src/command/output.h"

namespace nitro::cli {

Result<std::vector<proc::SocketsFolder>> trusted_folders() {
  NITRO_TRY(auto found, proc::find_sockets_folders());
  for (const Error& error : found.passed_over) std::cerr << fmt::format("Skipped: {}.\n", error.message());
  return std::move(found.trusted);
}

void name_unreadable(const std::string& socket) {
  std::cerr << fmt::format("Left out: the reply of the enclave process at {} cannot be read.\n", quote(socket));
}

Result<std::vector<nlohmann::ordered_json>> print_answers(const std::vector<proc::Answer>& answers, Shape shape,
                                                          bool skip_not_permitted, Unreadable unreadable) {
  std::vector<nlohmann::ordered_json> objects;
  std::size_t silent = 0;
  std::size_t failed = 0;
  for (const proc::Answer& answer : answers) {
    if (skip_not_permitted && answer.status == EACCES) continue;
    std::cerr << printable_lines(answer.standard_error);
    auto json = parse_json(answer.standard_output, ErrorCode::kSerde);
    if (!answer.readable || (answer.complete && !json)) {
      name_unreadable(answer.path);
      if (unreadable == Unreadable::kFail) ++silent;
      continue;
    }
    if (!answer.complete || !answer.status || !json) {
      ++silent;
      continue;
    }
    if (*answer.status != 0) ++failed;
    objects.push_back(*std::move(json));
  }
  if (silent > 0) std::cerr << "Failed connections: " << silent << "\n";
  if (shape == Shape::kArray) {
    print_json(std::cout, objects);
  } else {
    for (const auto& object : objects) print_json(std::cout, object);
  }
  std::cout.flush();
  if (failed > 0)
    return fail(ErrorCode::kCommandNotExecuted, fmt::format("{} enclave processes reported a failure", failed));
  if (silent > 0) {
    return fail(ErrorCode::kEnclaveProcessConnection,
                fmt::format("{} of {} enclave processes did not do what they were asked", silent, answers.size()));
  }
  return objects;
}

}  // namespace nitro::cli
