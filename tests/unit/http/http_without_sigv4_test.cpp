// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "nitro/fd.h"
#include "src/http/http.h"

namespace nitro::http {
namespace {

TEST(HttpWithoutSignaturesForAws, SendsNothingThatWouldHaveToBeSigned) {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  // The socket interface takes every kind of address as a sockaddr.
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), any, size), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), any, &size), 0);

  Request request;
  request.url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
  request.failure = ErrorCode::kSigning;
  request.total_timeout_seconds = 5;
  request.aws_signature = AwsSignature{.region = "eu-central-1",
                                       .service = "kms",
                                       .access_key_id = "AKIA",
                                       .secret_access_key = Secret("hush"),
                                       .session_token = {}};
  const auto answer = send(request);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), ErrorCode::kSigning);
  EXPECT_NE(answer.error().message().find("cannot set AWS_SIGV4"), std::string::npos) << answer.error().message();
  EXPECT_EQ(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), -1) << "somebody connected";
  EXPECT_EQ(errno, EAGAIN);
}

}  // namespace
}  // namespace nitro::http
