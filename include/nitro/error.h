// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nitro {

/// The kind of an error, as users and scripts see it. The number is both the exit status of `nitro-cli` and the two
/// digits of the `[ Exx ]` tag on stderr; numbers and names are a public interface and never change (docs/errors.md).
enum class ErrorCode : std::uint8_t {
  kUnspecified = 0,
  kMissingArgument = 1,
  kConflictingArgument = 2,
  kInvalidArgument = 3,
  kSocketPairCreation = 4,
  kProcessSpawn = 5,
  kDaemonizeProcess = 6,
  kReadFromDisk = 7,
  kUnusableConnection = 8,
  kSocketClose = 9,
  kSocketConnectTimeout = 10,
  kSocket = 11,
  kEpoll = 12,
  kInotify = 13,
  kInvalidCommand = 14,
  kLockAcquire = 15,
  kThreadJoin = 16,
  kSerde = 17,
  kFilePermissions = 18,
  kFileOperation = 19,
  kInvalidCpuConfiguration = 20,
  kNoSuchCpuInPool = 21,
  kInsufficientCpus = 22,
  kMalformedCpuId = 23,
  kCpu = 24,
  kNoSuchHugepageFlag = 25,
  kInsufficientMemoryRequested = 26,
  kInsufficientMemoryAvailable = 27,
  kInvalidEnclaveFd = 28,
  kIoctl = 29,
  kIoctlImageLoadInfo = 30,
  kIoctlSetMemoryRegion = 31,
  kIoctlAddVcpu = 32,
  kIoctlEnclaveStart = 33,
  kMemoryOverflow = 34,
  kEifParsing = 35,
  kEnclaveBoot = 36,
  kEnclaveEventWait = 37,
  kCommandNotExecuted = 38,
  kEnclaveProcessConnection = 39,
  kSocketPathNotFound = 40,
  kEnclaveProcessSendReply = 41,
  kEnclaveMmap = 42,
  kEnclaveMunmap = 43,
  kConsoleConnection = 44,
  kConsoleRead = 45,
  kConsoleWriteOutput = 46,
  kIntegerParsing = 47,
  kEifBuilding = 48,
  kDockerImageBuild = 49,
  kDockerImagePull = 50,
  kArtifactsPathNotSet = 51,
  kBlobsPathNotSet = 52,
  kClockSkew = 53,
  kSignalMasking = 54,
  kSignalUnmasking = 55,
  kLogger = 56,
  kHasher = 57,
  kEnclaveNaming = 58,
  kSignatureChecker = 59,
  kSigning = 60,
};

/// One row of the table behind the `[ Exx ]` output, `nitro-cli explain` and docs/errors.md.
struct ErrorDescription {
  ErrorCode code;
  std::string_view name;     ///< a few words, e.g. "File operation failed"
  std::string_view meaning;  ///< when the error occurs; whole sentences
  std::string_view remedy;   ///< what the user can do; whole sentences
};

/// All rows, in the order of the codes; the index of a row is its code.
[[nodiscard]] std::span<const ErrorDescription> error_table();
[[nodiscard]] const ErrorDescription& describe(ErrorCode code);
/// Returns "E07" for kReadFromDisk.
[[nodiscard]] std::string tag(ErrorCode code);
/// The process exit status for `code`.
[[nodiscard]] inline int exit_status(ErrorCode code) {
  return static_cast<int>(code);
}

/// Why an operation failed: the code that users see, the errno behind it (0 if none) and one sentence, outermost step
/// first and without a final full stop: "adding vCPU 3: the CPU is not in the pool". A value; cheap to move.
class Error {
 public:
  Error(ErrorCode code, std::string message, int system_errno = 0)
      : code_(code), system_errno_(system_errno), message_(std::move(message)) {}

  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] int system_errno() const { return system_errno_; }
  [[nodiscard]] const std::string& message() const { return message_; }

  /// Prefixes the message with what the caller was doing: "step: message".
  Error within(std::string_view step) &&;
  /// Returns the same failure with another code, for a caller that knows better what it means to the user.
  Error as(ErrorCode code) &&;

 private:
  ErrorCode code_;
  int system_errno_;
  std::string message_;
};

}  // namespace nitro
