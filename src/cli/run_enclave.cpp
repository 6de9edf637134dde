// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <limits>

#include "enclave_proc/claim.h"
#include "enclave_proc/client.h"
#include "enclave_proc/process.h"
#include "nitro/bytes.h"
#include "nitro/directories.h"
#include "nitro/event_loop.h"
#include "nitro/json.h"
#include "src/cli/command.h"
#include "src/cli/console.h"
#include "src/cli/enclave_output.h"

namespace nitro::cli {
namespace {

/// Names go into file names of other tools, scripts and messages.
constexpr std::size_t kMaxNameBytes = 255;

struct Options {
  std::string eif_path;
  std::string memory;
  std::string cpu_count;
  std::vector<std::string> cpu_ids;
  std::string enclave_cid;
  std::string enclave_name;
  std::string config;
  std::string hugepage_size;
  bool name_given = false;
  bool debug_mode = false;
  bool attach_console = false;
  bool local = false;
};

struct Settings {
  proc::RunRequest request;
  bool attach_console = false;
};

template <class Number>
Result<Number> parse_number(std::string_view option, const std::string& text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} {} is not a number in the possible range", option, quote(text)));
  }
  return number;
}

/// 0 lets the machine choose; the reserved addresses are those of vsock(7), and 3 is the parent of every enclave.
Result<std::optional<std::uint64_t>> check_cid(std::uint64_t cid) {
  if (cid == 0) {
    std::cerr << "The enclave CID will be chosen automatically, as the given CID is 0.\n";
    return std::optional<std::uint64_t>();
  }
  if (cid <= proc::kParentCid || cid == std::numeric_limits<std::uint32_t>::max()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("--enclave-cid {} is reserved; choose one from 4 on", cid));
  }
  if (cid > std::numeric_limits<std::uint32_t>::max()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--enclave-cid {} does not fit into the 32 bits of a vsock address", cid));
  }
  return std::optional(cid);
}

Result<void> check_cpu_count(std::optional<std::uint32_t> count) {
  if (count == 0U)
    return fail(ErrorCode::kInvalidArgument, "--cpu-count 0 leaves the enclave without a CPU; give at least 1");
  return {};
}

/// Errors: kNoSuchHugepageFlag. Which sizes this machine has is seen when pages are taken.
Result<std::optional<MemorySize>> parse_hugepage_size(const std::string& text) {
  if (text.empty()) return std::optional<MemorySize>();
  const auto size = MemorySize::parse(text);
  for (const std::uint64_t known : {2 * kMiB, kGiB}) {
    if (size && size->bytes() == known) return std::optional(*size);
  }
  return fail(ErrorCode::kNoSuchHugepageFlag, fmt::format("--hugepage-size {} is neither 2M nor 1G", quote(text)));
}

Result<void> check_name(const std::string& name) {
  const bool printable =
      std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
  if (name.empty() || name.size() > kMaxNameBytes || name == "." || name == ".." || !printable) {
    return fail(ErrorCode::kEnclaveNaming,
                fmt::format("{} cannot be the name of an enclave", quote(name.substr(0, 300))));
  }
  return {};
}

std::string name_from_eif(const std::string& eif_path) {
  std::string name = std::filesystem::path(eif_path).filename().string();
  while (name.size() > 4 && name.ends_with(".eif")) name.resize(name.size() - 4);
  return name;
}

Result<Settings> from_options(const Options& options) {
  Settings settings;
  proc::RunRequest& request = settings.request;
  if (!options.cpu_count.empty()) {
    NITRO_TRY(request.cpu_count, parse_number<std::uint32_t>("--cpu-count", options.cpu_count));
  }
  request.eif_path = options.eif_path;
  if (!options.enclave_cid.empty()) {
    NITRO_TRY(const auto cid, parse_number<std::uint64_t>("--enclave-cid", options.enclave_cid));
    NITRO_TRY(request.enclave_cid, check_cid(cid));
  }
  auto memory = MemorySize::parse(options.memory);
  if (!memory) return fail_within("--memory", std::move(memory).error());
  request.memory = *memory;
  for (const std::string& text : options.cpu_ids) {
    NITRO_TRY(const auto id, parse_number<std::uint32_t>("--cpu-ids", text));
    request.cpu_ids.push_back(id);
  }
  request.debug_mode = options.debug_mode;
  request.enclave_name = options.name_given ? options.enclave_name : name_from_eif(request.eif_path);
  return settings;
}

/// A member of the configuration file; absent and null are the same. Errors: kSerde.
template <class Value>
Result<std::optional<Value>> member(const nlohmann::ordered_json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::optional<Value>();
  const bool fits = [&] {
    if constexpr (std::is_same_v<Value, std::string>) return found->is_string();
    if constexpr (std::is_same_v<Value, bool>) return found->is_boolean();
    if constexpr (std::is_same_v<Value, std::vector<std::uint32_t>>) {
      return found->is_array() && std::all_of(found->begin(), found->end(), [](const auto& item) {
               return item.is_number_unsigned() &&
                      item.template get<std::uint64_t>() <= std::numeric_limits<std::uint32_t>::max();
             });
    }
    if constexpr (std::is_integral_v<Value>) {
      return found->is_number_unsigned() && found->template get<std::uint64_t>() <= std::numeric_limits<Value>::max();
    }
    return false;
  }();
  if (!fits) return fail(ErrorCode::kSerde, fmt::format("the value of \"{}\" is not of the kind it has to be", key));
  return std::optional(found->template get<Value>());
}

template <class Value>
Result<Value> needed_member(const nlohmann::ordered_json& config, const char* key) {
  NITRO_TRY(auto value, member<Value>(config, key));
  if (!value) return fail(ErrorCode::kSerde, fmt::format("\"{}\" is missing", key));
  return std::move(*value);
}

Result<Settings> read_config(const nlohmann::ordered_json& config) {
  Settings settings;
  proc::RunRequest& request = settings.request;
  NITRO_TRY(request.eif_path, needed_member<std::string>(config, "eif_path"));
  NITRO_TRY(const auto memory_mib, needed_member<std::uint64_t>(config, "memory_mib"));
  if (memory_mib > std::numeric_limits<std::uint64_t>::max() / kMiB) {
    return fail(ErrorCode::kSerde, "the value of \"memory_mib\" is more than 64 bits can address");
  }
  request.memory = MemorySize::from_mib(memory_mib);
  NITRO_TRY(const auto cid, member<std::uint64_t>(config, "enclave_cid"));
  if (cid) {
    NITRO_TRY(request.enclave_cid, check_cid(*cid));
  }
  NITRO_TRY(const auto cpu_ids, member<std::vector<std::uint32_t>>(config, "cpu_ids"));
  NITRO_TRY(request.cpu_count, member<std::uint32_t>(config, "cpu_count"));
  if (!cpu_ids && !request.cpu_count)
    return fail(ErrorCode::kMissingArgument, "neither \"cpu_count\" nor \"cpu_ids\" is given");
  if (cpu_ids && request.cpu_count)
    return fail(ErrorCode::kConflictingArgument, "both \"cpu_count\" and \"cpu_ids\" are given");
  if (cpu_ids) request.cpu_ids = *cpu_ids;
  NITRO_TRY(const auto debug_mode, member<bool>(config, "debug_mode"));
  NITRO_TRY(const auto attach_console, member<bool>(config, "attach_console"));
  settings.attach_console = attach_console.value_or(false);
  request.debug_mode = debug_mode.value_or(false);
  NITRO_TRY(const auto name, member<std::string>(config, "enclave_name"));
  request.enclave_name = name.value_or(name_from_eif(request.eif_path));
  return settings;
}

Result<Settings> from_config(const std::string& path) {
  const auto step = [&path] { return fmt::format("reading {}", quote(path)); };
  NITRO_TRY(const std::string text, read_text_file(path));
  const auto config = parse_json(text, ErrorCode::kSerde);
  if (!config) return fail_within(step(), config.error());
  if (!config->is_object()) return fail(ErrorCode::kSerde, fmt::format("{} is not a JSON object", quote(path)));
  auto settings = read_config(*config);
  if (!settings) return fail_within(step(), std::move(settings).error());
  return settings;
}

Result<proc::Backend> chosen_backend(bool local_flag) {
  const char* configured = std::getenv("NITRO_CLI_BACKEND");
  const std::string_view name = configured != nullptr ? configured : "";
  if (local_flag || name == "local") return proc::Backend::kLocal;
  if (name.empty() || name == "nitro") return proc::Backend::kNitro;
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("NITRO_CLI_BACKEND={} is not known; known are nitro and local", quote(name)));
}

/// Makes the name one that no other enclave has, by a number behind it, and takes it.
Result<Fd> take_unique_name(std::string& name) {
  NITRO_TRY(const auto names, proc::enclave_names(sockets_folders()));
  const std::string wanted = name;
  for (int number = 0;; ++number) {
    name = number == 0 ? wanted : fmt::format("{}_{}", wanted, number);
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    NITRO_TRY(Fd claim, proc::claim("name", name));
    if (!claim) continue;
    if (number > 0)
      std::cerr << fmt::format("The name {} is taken; this enclave is called {}.\n", quote(wanted), quote(name));
    return claim;
  }
}

/// Follows the start of the enclave: messages for people are shown at once. A signal undoes the start; this process
/// then ends by it, when nothing is left.
Result<proc::Answer> follow_start(proc::StartedProcess process) {
  NITRO_CHECK(block_signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT}));
  NITRO_TRY(const auto loop, EventLoop::create());
  const int socket = process.socket.get();
  NITRO_CHECK(set_nonblocking(socket, true));
  proc::Answer answer;
  proc::MessageReader reader(proc::kMaxReplyBytes);
  int ended_by = 0;
  NITRO_TRY(const auto signals, loop->watch_signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT}, [&](int signal) {
    ended_by = signal;
    ::shutdown(socket, SHUT_WR);
  }));
  NITRO_TRY(const auto watch, loop->watch_fd(socket, EPOLLIN, [&](std::uint32_t) {
    std::array<std::byte, 65536> buffer;
    const ssize_t count = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
      answer.complete = reader.empty();
      return loop->stop();
    }
    reader.append(std::span(buffer).first(static_cast<std::size_t>(count)));
    while (true) {
      auto message = reader.next_message();
      if (!message) return loop->stop();
      if (!message->has_value()) return;
      const auto reply = proc::decode_reply(**message);
      if (!reply) return loop->stop();
      if (const auto* out = std::get_if<proc::StdOutMessage>(&*reply)) answer.standard_output += out->text;
      if (const auto* err = std::get_if<proc::StdErrMessage>(&*reply)) std::cerr << err->text << std::flush;
      if (const auto* status = std::get_if<proc::StatusReply>(&*reply)) answer.status = status->status;
    }
  }));
  NITRO_CHECK(loop->run());
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::sigaddset(&set, signal);
  if (ended_by != 0) ::kill(::getpid(), ended_by);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  return answer;
}

Result<void> run_enclave(const Options& options, Context& context) {
  auto settings = options.config.empty() ? from_options(options) : from_config(options.config);
  if (!settings) return Failure(std::move(settings).error());
  proc::RunRequest& request = settings->request;
  // The one option beside --config that says what to do with the enclave, not what it is.
  settings->attach_console = settings->attach_console || options.attach_console;
  request.debug_mode = request.debug_mode || settings->attach_console;
  NITRO_CHECK(check_cpu_count(request.cpu_count));
  NITRO_CHECK(check_name(request.enclave_name));
  NITRO_TRY(request.backend, chosen_backend(options.local));
  NITRO_TRY(request.hugepage_size, parse_hugepage_size(options.hugepage_size));
  if (request.backend == proc::Backend::kLocal) {
    if (request.hugepage_size) {
      return fail(ErrorCode::kConflictingArgument,
                  "--hugepage-size is for enclaves of the device; local enclaves do not take huge pages");
    }
    std::cerr << "Local enclave: QEMU runs it on this machine, and it is not isolated from its host.\n";
  }
  NITRO_TRY(Fd claim, take_unique_name(request.enclave_name));
  NITRO_TRY(auto process, proc::start_enclave_process(request, std::move(claim), context.logs_folder));
  SPDLOG_LOGGER_INFO(&*context.log, "started the enclave process for {}", quote(request.eif_path));
  NITRO_TRY(const auto answer, follow_start(std::move(process)));
  if (answer.standard_output.empty()) {
    return fail(ErrorCode::kEnclaveProcessConnection, "the enclave was not started, for the reason given above");
  }
  NITRO_TRY(const auto objects, print_answers({answer}, Shape::kObjects, false));
  if (settings->attach_console) return show_console(objects.front().at("EnclaveID").get<std::string>(), std::nullopt);
  return {};
}

}  // namespace

void add_run_enclave(CLI::App& application, Chosen& chosen) {
  auto* command = application.add_subcommand("run-enclave", "Starts a new enclave");
  auto options = std::make_shared<Options>();
  auto* eif_path = command->add_option("--eif-path", options->eif_path, "Path pointing to a prebuilt EIF image");
  auto* memory = command->add_option(
      "--memory", options->memory,
      "Memory to allocate for the enclave, in MiB, or with a unit: 512M, 2G, 1T. Depending on the available "
      "pages, more might be allocated");
  auto* cpu_count = command->add_option("--cpu-count", options->cpu_count, "Number of CPUs");
  auto* cpu_ids =
      command->add_option("--cpu-ids", options->cpu_ids, "List of CPU IDs that will be provided to the enclave")
          ->expected(1, -1);
  auto* cid =
      command->add_option("--enclave-cid", options->enclave_cid, "CID to be used for the newly started enclave");
  auto* name =
      command->add_option("--enclave-name", options->enclave_name, "Custom name assigned to the enclave by the user");
  auto* debug_mode =
      command->add_flag("--debug-mode", options->debug_mode,
                        "Starts the enclave in debug mode: its console can be read with the console command, and its "
                        "measurements in attestation documents are zero");
  command->add_flag("--attach-console", options->attach_console,
                    "Attach the enclave console immediately after starting the enclave (implies --debug-mode)");
  command->add_flag("--local", options->local,
                    "Run the enclave in QEMU on this machine, without isolation from it; for development. Also: "
                    "NITRO_CLI_BACKEND=local");
  auto* hugepage_size = command
                            ->add_option("--hugepage-size", options->hugepage_size,
                                         "Take huge pages of this size only: 2M or 1G. Default: large ones first")
                            ->type_name("SIZE");
  auto* config = command->add_option("--config", options->config, "Read the enclave settings from a JSON file")
                     ->type_name("JSON-CONFIG");
  for (auto* other : {eif_path, memory, cpu_count, cpu_ids, cid, name, debug_mode, hugepage_size})
    config->excludes(other);
  cpu_count->excludes(cpu_ids);
  command->callback([&chosen, options, config, eif_path, memory, cpu_count, cpu_ids, name] {
    if (config->count() == 0) {
      if (eif_path->count() == 0) throw CLI::RequiredError("--eif-path");
      if (memory->count() == 0) throw CLI::RequiredError("--memory");
      if (cpu_count->count() == 0 && cpu_ids->count() == 0) throw CLI::RequiredError("--cpu-count or --cpu-ids");
    }
    options->name_given = name->count() > 0;
    chosen = {"Run Enclave", [options](Context& context) { return run_enclave(*options, context); }};
  });
}

}  // namespace nitro::cli
