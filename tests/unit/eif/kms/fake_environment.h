// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "eif/kms/environment.h"

namespace nitro::kms::testing {

/// An environment that the test writes, and a network that gives prepared answers and keeps what was asked.
struct FakeEnvironment {
  std::map<std::string, std::string> variables = {{"HOME", "/nonexistent"}};
  std::deque<Result<http::Response>> answers;
  std::vector<http::Request> asked;
  std::vector<std::chrono::milliseconds> pauses;
  std::time_t now = 1800000000;  // 2027-01-15, when the golden certificates are valid

  void answer(long status, std::string body) {
    answers.emplace_back(http::Response{.status = status, .headers = {}, .body = std::move(body)});
  }
  void answer_nothing() { answers.emplace_back(fail(ErrorCode::kSigning, "nobody answers")); }

  [[nodiscard]] Environment environment() {
    return {.variable =
                [this](const char* name) {
                  const auto found = variables.find(name);
                  return found == variables.end() ? std::string() : found->second;
                },
            .send = [this](const http::Request& request) -> Result<http::Response> {
              asked.push_back(request);
              if (answers.empty()) {
                ADD_FAILURE() << "not expected to be asked: " << request.url;
                return fail(ErrorCode::kSigning, "not expected");
              }
              auto answer = std::move(answers.front());
              answers.pop_front();
              return answer;
            },
            .now = [this] { return now; },
            .pause = [this](std::chrono::milliseconds time) { pauses.push_back(time); }};
  }
};

}  // namespace nitro::kms::testing
