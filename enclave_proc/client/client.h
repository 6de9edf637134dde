// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "enclave_proc/protocol/answer_reader.h"
#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

/// The client side of the sockets of enclave processes. All processes are asked at the same time, and one time limit
/// covers all of them: the delays of stuck processes do not add up.
namespace nitro::proc {

/// A connection to one enclave process.
struct Connection {
  Fd socket;         ///< blocking; invalid when the process accepts no more connections
  std::string path;  ///< of its socket; empty for the process that run-enclave has just started
};

/// Time limit for answers that the processes have at hand.
inline constexpr std::chrono::milliseconds kAnswerTimeout(3000);
/// Time limit for ending enclaves: returning many GiB of memory takes time.
inline constexpr std::chrono::milliseconds kTerminateTimeout(120000);

/// Connects to every enclave process that has a socket in `folders`, sorted by path. Removes sockets that nobody
/// listens on any more and other leftovers of killed processes. Skips sockets that this user may not connect to and
/// those of users who have no enclaves in the folder. Errors: kReadFromDisk when a folder cannot be read.
Result<std::vector<Connection>> connect_to_all(const std::vector<SocketsFolder>& folders);
/// Connects to the process of the enclave with this ID. Errors: kSocket when there is none.
Result<Connection> connect_to(const std::string& enclave_id, const std::vector<SocketsFolder>& folders);

/// Sends `request` (encoded messages, concatenated) to all connections and collects the replies until each process
/// closes its end. `expects_confirmation`: the replies start with kConfirmation. Answers are in the order of the
/// connections; a process that fails yields an incomplete answer. Errors: kEpoll.
Result<std::vector<Answer>> ask_all(std::vector<Connection> connections, const std::string& request,
                                    bool expects_confirmation, std::chrono::milliseconds timeout);

/// Drops the answers of processes that ended before they answered: killed, or finished with their enclaves. Removes
/// their sockets, as connect_to_all() does.
void leave_out_ended(std::vector<Answer>& answers, const std::vector<SocketsFolder>& folders);

/// Sends `command` and returns the bare number that the process replies with. Errors: kSocket.
Result<std::uint64_t> ask_number(Connection connection, Command command,
                                 std::chrono::milliseconds timeout = kAnswerTimeout);

/// Answers of all enclaves to a question whose answer is one JSON string.
struct Texts {
  std::vector<std::string> texts;
  std::vector<std::string> unreadable;  ///< sockets that answered with anything else
};
/// Returns the names of all enclaves that answer.
Result<Texts> enclave_names(const std::vector<SocketsFolder>& folders);
/// Returns the ID of the enclave with this name. Errors: kEnclaveNaming unless exactly one enclave has it.
Result<std::string> id_of(const std::string& name, const std::vector<SocketsFolder>& folders);

}  // namespace nitro::proc
