// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "enclave_proc/backend.h"
#include "enclave_proc/control_server.h"
#include "enclave_proc/description.h"
#include "enclave_proc/machine/enclave_id.h"
#include "enclave_proc/protocol/protocol.h"
#include "enclave_proc/registry/published_socket.h"
#include "enclave_proc/sandbox/sandbox.h"
#include "nitro/eif/metadata.h"
#include "src/base/bytes.h"
#include "src/runtime/error_report.h"
#include "src/runtime/log.h"
#include "src/runtime/privileges.h"
#include "src/runtime/program_start.h"
#include "src/runtime/unix_socket.h"

namespace nitro::proc {
namespace {

constexpr const char* kAction = "Run Enclave";
/// How long a client that ended the enclave may take to read its replies before the process exits anyway.
constexpr std::chrono::seconds kFarewellLimit(2);

/// Measures the image on its own thread while the enclave boots. An eventfd announces the result.
class ImageDescriber {
 public:
  /// `image` is borrowed for the call; `name` stands for it in messages.
  static Result<std::unique_ptr<ImageDescriber>> start(int image, std::string name) {
    Fd done(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!done) return fail_errno(ErrorCode::kEpoll, "creating an event descriptor");
    Fd file(::fcntl(image, F_DUPFD_CLOEXEC, 3));
    if (!file) return fail_errno(ErrorCode::kFileOperation, fmt::format("keeping {} open", quote(name)));
    NITRO_TRY(eif::Reader reader, eif::Reader::open(std::move(file), std::move(name)));
    return std::unique_ptr<ImageDescriber>(new ImageDescriber(std::move(reader), std::move(done)));
  }

  /// Becomes readable once the result is available.
  [[nodiscard]] int fd() const { return done_.get(); }
  /// Must be called once, after fd() has become readable.
  Result<eif::Description> take() {
    thread_.join();
    return std::move(*result_);
  }

 private:
  ImageDescriber(eif::Reader reader, Fd done)
      : done_(std::move(done)), thread_([this, image = std::move(reader)] {
          // The main thread needs its capabilities to start the machine; reading an untrusted image needs none.
          [[maybe_unused]] const int ignored_error = drop_capabilities();
          result_.emplace(image.describe());
          const std::uint64_t one = 1;
          [[maybe_unused]] const ssize_t ignored = ::write(done_.get(), &one, sizeof one);
        }) {}

  Fd done_;
  std::optional<Result<eif::Description>> result_;  // written by the thread, read after the join
  std::jthread thread_;
};

/// Everything the command line passes to the process.
struct ProcessStart {
  RunRequest request;
  Result<Fd> image;  ///< or the error from opening it, which the process reports
  SocketsFolder folder;
  FolderLock name;
  Fd command_line;
};

/// The process behind one enclave, from its start to its end: one event loop, and a thread that measures the image.
class EnclaveProcess {
 public:
  EnclaveProcess(ProcessStart start, Log log, std::string logs_folder)
      : request_(std::move(start.request)),
        image_file_(std::move(start.image)),
        folder_(std::move(start.folder)),
        name_(std::move(start.name)),
        command_line_(std::move(start.command_line)),
        log_(std::move(log)),
        logs_folder_(std::move(logs_folder)) {}

  /// Returns the exit status of the process.
  int run() {
    auto result = start();
    if (result) result = loop_->run();
    if (!result && !error_) error_ = std::move(result).error();
    return finish();
  }

 private:
  Result<void> start() {
    NITRO_CHECK(block_signals({SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE}));
    NITRO_TRY(loop_, EventLoop::create());
    NITRO_TRY(signal_watch_, loop_->watch_signals({SIGINT, SIGQUIT, SIGTERM, SIGHUP}, [this](int signal) {
      SPDLOG_LOGGER_WARN(&*log_, "received signal {} ({}): ending the enclave", signal, ::strsignal(signal));
      if (state_ != EnclaveState::kRunning) {
        fail_start(Error(ErrorCode::kEnclaveBoot,
                         fmt::format("the enclave process received signal {} ({})", signal, ::strsignal(signal))));
      }
      loop_->stop();
    }));
    NITRO_TRY(command_line_watch_,
              loop_->watch_fd(command_line_.get(), EPOLLIN | EPOLLRDHUP, [this](std::uint32_t) { on_command_line(); }));
    NITRO_TRY(machine_, make_machine(request_, std::move(image_file_), folder_));
    NITRO_TRY(describer_, ImageDescriber::start(machine_->image_fd(), request_.eif_path));
    tell(StdErrMessage{"Start allocating memory...\n"});
    MachineEvents events{.on_heartbeat = [this] { on_heartbeat(); },
                         .on_end = [this](const std::string& reason) { on_end(reason); },
                         .on_remark = [this](const std::string& remark) { on_remark(remark); }};
    NITRO_TRY(enclave_.resources, machine_->start(*loop_, std::move(events)));
    enclave_.name = request_.enclave_name;
    enclave_.id = enclave_id(enclave_.resources.slot_uid);
    enclave_.process = ::getpid();
    enclave_.debug_mode = request_.debug_mode;
    log_.set_id(fmt::format("enc-{:x}:{}", enclave_.resources.slot_uid, ::getpid()));
    SPDLOG_LOGGER_INFO(&*log_, "started enclave {} from {}", enclave_.id, quote(request_.eif_path));
    tell(StdErrMessage{fmt::format("Started enclave with enclave-cid: {}, memory: {} MiB, cpu-ids: [{}]\n",
                                   enclave_.resources.enclave_cid, enclave_.resources.memory.mib(),
                                   fmt::join(enclave_.resources.cpu_ids, ", "))});
    // Watched only now: starting the machine delivers events, and whether a damaged image is reported before or after a
    // refusal of the driver must not depend on timing.
    NITRO_TRY(describer_watch_, loop_->watch_fd(describer_->fd(), EPOLLIN, [this](std::uint32_t) { on_described(); }));
    const auto timeout = machine_->boot_timeout();
    boot_timer_ = loop_->watch_timer(timeout, [this, timeout] {
      end_boot(fmt::format("the enclave did not report within {} s that it has booted", timeout.count() / 1000));
    });
    // Before any event of the running enclave is handled.
    enter_sandbox({.folders = {folder_.path(), logs_folder_}, .engine = machine_->engine()},
                  [this](const std::string& missing) { SPDLOG_LOGGER_WARN(&*log_, "{}", missing); });
    return {};
  }

  void on_remark(const std::string& remark) { SPDLOG_LOGGER_CALL(&*log_, spdlog::level::debug, "{}", remark); }

  void on_heartbeat() {
    SPDLOG_LOGGER_INFO(&*log_, "the enclave has booted");
    boot_timer_.cancel();
    booted_ = true;
    become_running();
  }

  void on_described() {
    describer_watch_.cancel();
    auto description = describer_->take();
    describer_.reset();
    if (!description) return fail_start(std::move(description).error().as(ErrorCode::kSignatureChecker));
    if (!description->crc_ok) {
      return fail_start(
          Error(ErrorCode::kSignatureChecker,
                fmt::format("the content of {} does not have the checksum that its header names: the file is damaged",
                            quote(request_.eif_path))));
    }
    if (description->signature) {
      if (auto usable = eif::require_usable(description->signature->check); !usable)
        return fail_start(std::move(usable).error());
      if (!description->signature->covers_image) {
        return fail_start(Error(ErrorCode::kSignatureChecker,
                                fmt::format("the signature in {} is for another image", quote(request_.eif_path))));
      }
    }
    image_ = std::move(*description);
    become_running();
  }

  /// Called when either has happened: the enclave has booted, or its image is known to be intact. Acts once both have.
  void become_running() {
    if (!booted_ || !image_) return;
    auto socket = PublishedSocket::publish(folder_, socket_name(enclave_.id).value(), ControlServer::kSocketMode);
    if (!socket) return fail_start(std::move(socket).error());
    auto server = ControlServer::start(*loop_, std::move(*socket), handlers());
    if (!server) return fail_start(std::move(server).error());
    server_ = std::move(*server);
    auto watched = watch_socket_file();
    if (!watched) return fail_start(std::move(watched).error());
    // From now on the server reports the name as taken. The lock file must not stay: the reference's terminate-enclave
    // --all fails on anything in the folder that is not a socket.
    name_.give_back();
    state_ = EnclaveState::kRunning;
    tell(StdOutMessage{eif::json_text(run_info(enclave_)) + "\n"});
    tell(StatusReply{0});
    if (abandoned_) loop_->stop();
  }

  /// The command line sends one byte after it has reported that the enclave runs, which leaves the enclave to this
  /// process. Any other event means that it is gone, and then nobody knows of the enclave.
  void on_command_line() {
    std::byte left_running{};
    const ssize_t count = ::recv(command_line_.get(), &left_running, 1, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    command_line_watch_.cancel();
    if (count == 1 && state_ != EnclaveState::kEmpty) return command_line_.reset();
    SPDLOG_LOGGER_WARN(&*log_, "the command that started the enclave is gone: undoing the start");
    abandoned_ = true;
    loop_->stop();
  }

  ControlHandlers handlers() {
    return {.enclave_name = enclave_.name,
            .enclave_id = enclave_.id,
            .enclave_cid = enclave_.resources.enclave_cid,
            .enclave_flags = enclave_.debug_mode ? kDebugModeFlag : 0,
            .describe =
                [this](bool with_metadata) {
                  return eif::json_text(describe_info(enclave_, state_, *image_, with_metadata));
                },
            .terminate = [this] { return terminate(); },
            .on_terminated = [this] { loop_->stop(); }};
  }

  std::vector<Reply> terminate() {
    SPDLOG_LOGGER_INFO(&*log_, "ending the enclave as asked");
    state_ = EnclaveState::kTerminating;
    // Done first, so that nobody finds a socket whose process is about to exit.
    server_->stop_listening();
    farewell_timer_ = loop_->watch_timer(kFarewellLimit, [this] { loop_->stop(); });
    std::vector<Reply> replies = {StatusReply{0}};
    if (auto stopped = machine_->stop(); !stopped) {
      const std::string text = report(stopped.error(), "Terminate Enclave", logs_folder_);
      replies.emplace_back(StdErrMessage{fmt::format("Ending enclave {} failed.\n{}", enclave_.id, text)});
      return replies;
    }
    replies.emplace_back(StdErrMessage{fmt::format("Successfully terminated enclave {}.\n", enclave_.id)});
    replies.emplace_back(StdOutMessage{eif::json_text(terminate_info(enclave_)) + "\n"});
    return replies;
  }

  void on_end(const std::string& reason) {
    SPDLOG_LOGGER_WARN(&*log_, "the enclave has ended: {}", reason);
    if (state_ == EnclaveState::kEmpty)
      return end_boot(fmt::format("the enclave ended before it had booted: {}", reason));
    loop_->stop();
  }

  void end_boot(const std::string& reason) {
    const std::string words = machine_->stderr_tail();
    fail_start(
        Error(ErrorCode::kEnclaveBoot, words.empty() ? reason : fmt::format("{}; its last words:\n{}", reason, words)));
  }

  /// A process whose socket was removed is unreachable: it must not keep memory and CPUs.
  Result<void> watch_socket_file() {
    const std::string path = folder_.path_of(socket_name(enclave_.id).value());
    socket_file_inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    // Removing a name changes the link count of the file, which is an attribute; the file itself lives while the socket
    // is bound.
    if (!socket_file_inotify_ ||
        ::inotify_add_watch(socket_file_inotify_.get(), path.c_str(), IN_ATTRIB | IN_DELETE_SELF) < 0) {
      return fail_errno(ErrorCode::kInotify, fmt::format("watching {}", quote(path)));
    }
    NITRO_TRY(socket_file_watch_, loop_->watch_fd(socket_file_inotify_.get(), EPOLLIN, [this, path](std::uint32_t) {
      std::array<std::byte, 4096> events;
      while (::read(socket_file_inotify_.get(), events.data(), events.size()) > 0) {
      }
      if (state_ == EnclaveState::kTerminating || ::access(path.c_str(), F_OK) == 0) return;
      SPDLOG_LOGGER_WARN(&*log_, "the socket {} has been removed: ending the enclave", quote(path));
      loop_->stop();
    }));
    return {};
  }

  void fail_start(Error error) {
    if (!error_) error_ = std::move(error);
    loop_->stop();
  }

  void tell(const Reply& reply) {
    if (!command_line_ || abandoned_) return;
    // The command line reads all the time; if it is gone, the start is undone.
    if (!write_all(command_line_.get(), as_bytes(encode(reply)))) abandoned_ = true;
  }

  int finish() {
    if (server_) server_->stop_listening();
    if (machine_) {
      if (auto stopped = machine_->stop(); !stopped) SPDLOG_LOGGER_ERROR(&*log_, "{}", stopped.error().message());
    }
    server_.reset();
    name_.give_back();
    int status = 0;
    if (error_) {
      SPDLOG_LOGGER_ERROR(&*log_, "[ {} ] {}", tag(error_->code()), error_->message());
      tell(StdErrMessage{report(*error_, kAction, logs_folder_)});
      tell(StatusReply{EINVAL});
      status = exit_status(error_->code());
    }
    SPDLOG_LOGGER_INFO(&*log_, "the enclave process ends");
    command_line_.reset();
    return status;
  }

  RunRequest request_;
  Result<Fd> image_file_;  // until the machine takes it
  SocketsFolder folder_;
  FolderLock name_;
  Fd command_line_;
  Log log_;
  std::string logs_folder_;
  std::unique_ptr<EventLoop> loop_;
  EventLoop::Watch signal_watch_;
  EventLoop::Watch command_line_watch_;
  EventLoop::Watch describer_watch_;
  EventLoop::Watch boot_timer_;
  EventLoop::Watch farewell_timer_;
  EventLoop::Watch socket_file_watch_;
  Fd socket_file_inotify_;
  std::unique_ptr<ImageDescriber> describer_;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<ControlServer> server_;
  EnclaveIdentity enclave_;
  EnclaveState state_ = EnclaveState::kEmpty;
  std::optional<eif::Description> image_;
  std::optional<Error> error_;
  bool booted_ = false;
  bool abandoned_ = false;
};

/// Closes every descriptor from 3 on that is not in `kept`, so that the daemon does not hold a pipe of the shell on
/// which others wait.
void keep_only(std::vector<unsigned> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned first = STDERR_FILENO + 1;
  for (const unsigned fd : kept) {
    if (fd > first) ::close_range(first, fd - 1, 0);
    first = fd + 1;
  }
  ::close_range(first, ~0U, 0);
}

/// Runs in the daemon. Standard descriptors go to /dev/null; the working folder stays, as paths are relative to it.
[[noreturn]] void become_enclave_process(ProcessStart start, const std::string& logs_folder) {
  std::vector<unsigned> kept;
  for (const int fd :
       {start.command_line.get(), start.folder.fd(), start.name.fd(), start.image ? start.image->get() : -1})
    if (fd >= 0) kept.push_back(static_cast<unsigned>(fd));
  keep_only(std::move(kept));
  raise_descriptor_limit();
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  auto log = Log::open(logs_folder);
  Log usable = log ? std::move(*log) : Log::none();
  usable.set_id(fmt::format("enc-xxxxxxx:{}", ::getpid()));
  int status = exit_status(ErrorCode::kDaemonizeProcess);
  try {
    // Never destroyed: run() has released everything, and the measuring thread may be busy with a large image.
    auto* process = new EnclaveProcess(std::move(start), std::move(usable), logs_folder);
    status = process->run();
  } catch (const std::exception& exception) {
    // The only catch in this process: a bug, or no memory. Destructors have run; the enclave is gone.
    auto last_log = Log::open(logs_folder);
    if (last_log) SPDLOG_LOGGER_CRITICAL(&**last_log, "the enclave process failed: {}", exception.what());
  }
  // Not exit(): the static objects belong to the command line, of which this process is a copy.
  ::_exit(status);
}

/// Runs in the process between the command line and the daemon: forks the daemon and passes its process ID on.
[[noreturn]] void detach(ProcessStart start, int number, const std::string& logs_folder) {
  // A new session: no signals and hang-ups from a terminal. The second fork makes the daemon not the session's leader,
  // so it can never acquire a controlling terminal.
  ::setsid();
  const pid_t daemon = ::fork();
  if (daemon == 0) become_enclave_process(std::move(start), logs_folder);
  const bool told = daemon > 0 && write_all(number, std::as_bytes(std::span(&daemon, 1)));
  ::_exit(told ? 0 : exit_status(ErrorCode::kDaemonizeProcess));
}

std::optional<ExitStatus> wait_for(pid_t process) {
  int status = 0;
  while (::waitpid(process, &status, 0) < 0) {
    if (errno != EINTR) return std::nullopt;
  }
  return ExitStatus::from_wait(status);
}

}  // namespace

void StartedProcess::leave_running() {
  const std::byte left_running{1};
  // The enclave may have ended meanwhile. It was started all the same.
  [[maybe_unused]] const auto ignored = write_all(socket_.get(), std::span(&left_running, 1));
  socket_.reset();
}

std::optional<ExitStatus> StartedProcess::end() {
  socket_.reset();
  // Once waited for, the process ID may belong to another process.
  if (process_ > 0) end_ = wait_for(std::exchange(process_, 0));
  return end_;
}

Result<StartedProcess> start_enclave_process(const RunRequest& request, const SocketsFolder& folder, FolderLock name,
                                             const std::string& logs_folder) {
  NITRO_TRY(auto sockets, make_socket_pair());
  NITRO_TRY(auto number, make_pipe());
  ProcessStart start{.request = request,
                     .image = open_regular_file(request.eif_path),
                     .folder = folder,
                     .name = std::move(name),
                     .command_line = std::move(sockets.second)};
  // If this fails the process becomes a child of init, and how it ends stays unknown; nothing else depends on it.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  // fork is safe here: the command line has one thread (see the header), so no other thread can hold a lock.
  const pid_t middle = ::fork();
  if (middle < 0) return fail_errno(ErrorCode::kProcessSpawn, "starting the enclave process");
  if (middle == 0) detach(std::move(start), number.second.get(), logs_folder);
  number.second.reset();
  const auto status = wait_for(middle);
  pid_t daemon = 0;
  const auto told = read_exact(number.first.get(), std::as_writable_bytes(std::span(&daemon, 1)));
  if (!status || !status->success() || !told) {
    const std::string how = status ? fmt::format(": the process that does so {}", status->to_string()) : "";
    return fail(ErrorCode::kDaemonizeProcess, fmt::format("the enclave process could not be detached{}", how));
  }
  start.name.leave_to_other_process();
  return StartedProcess(std::move(sockets.first), daemon);
}

}  // namespace nitro::proc
