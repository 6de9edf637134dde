// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "enclave_proc/protocol/answer_reader.h"
#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

/// The command line's end of the socket of enclave processes. Any number of processes is asked at the same time, and
/// all of them together get one time limit: stuck ones do not add up.
namespace nitro::proc {

/// A connection to one enclave process.
struct Connection {
  Fd socket;         ///< blocking; invalid when the process takes no more connections
  std::string path;  ///< of its socket; empty for the process that run-enclave just started
};

/// The time in which processes have to answer what they know already.
inline constexpr std::chrono::milliseconds kAnswerTimeout(3000);
/// The time in which processes have to end their enclaves: memory of many GiB takes its time to be given back.
inline constexpr std::chrono::milliseconds kTerminateTimeout(120000);

/// Connects to every enclave process that has a socket in `folders`. Sockets behind which nobody listens any more are
/// removed, and so is what else killed processes left behind; sockets that this user may not connect to, and those of
/// users who have no enclaves in the folder, are passed over. Sorted by path. Errors: kReadFromDisk when a folder
/// cannot be read.
Result<std::vector<Connection>> connect_to_all(const std::vector<SocketsFolder>& folders);
/// Connects to the process of the enclave with this ID. Errors: kSocket when there is none.
Result<Connection> connect_to(const std::string& enclave_id, const std::vector<SocketsFolder>& folders);

/// Sends `request` (encoded messages, one after the other) to all connections and collects the replies until each
/// process closes its end. `expects_confirmation`: the replies start with kConfirmation. Answers come in the order of
/// the connections. Errors: kEpoll; a process that fails is an incomplete answer.
Result<std::vector<Answer>> ask_all(std::vector<Connection> connections, const std::string& request,
                                    bool expects_confirmation, std::chrono::milliseconds timeout);

/// Leaves out the answers of processes that ended while they were asked, and so did not answer: killed, or done with
/// their enclaves. Their sockets are removed, as connect_to_all() does it.
void leave_out_ended(std::vector<Answer>& answers, const std::vector<SocketsFolder>& folders);

/// Sends `command` and returns the bare number that comes back. Errors: kSocket.
Result<std::uint64_t> ask_number(Connection connection, Command command,
                                 std::chrono::milliseconds timeout = kAnswerTimeout);

/// What enclaves have said to a question whose answer is one JSON string.
struct Texts {
  std::vector<std::string> texts;
  std::vector<std::string> unreadable;  ///< the sockets of those who have said something else
};
/// The names of all enclaves that answer.
Result<Texts> enclave_names(const std::vector<SocketsFolder>& folders);
/// The ID of the one enclave with this name. Errors: kEnclaveNaming when there is none, or more than one.
Result<std::string> id_of(const std::string& name, const std::vector<SocketsFolder>& folders);

}  // namespace nitro::proc
