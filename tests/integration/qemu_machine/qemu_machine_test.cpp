// SPDX-License-Identifier: Apache-2.0
// The local machine with a real QEMU, a real kernel and a guest of our own (guest/test_init.c). Needs the kernel of the
// blobs folder (NITRO_CLI_BLOBS) and QEMU; skips with the reason otherwise. Set NITRO_CLI_QEMU to try another QEMU.
#include "enclave_proc/qemu/qemu_machine.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <future>
#include <thread>

#include "nitro/eif/reader.h"
#include "nitro/eif/writer.h"
#include "src/base/bytes.h"
#include "src/runtime/directories.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// cpio newc (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): what the guest needs to start.
void append_cpio(std::string& archive, const std::string& name, unsigned mode, unsigned major, unsigned minor,
                 const std::string& content) {
  const auto field = [&archive](std::size_t value) {
    char text[9];
    std::snprintf(text, sizeof text, "%08zX", value);
    archive += text;
  };
  archive += "070701";
  for (const std::size_t value : {std::size_t{0}, std::size_t{mode}, std::size_t{0}, std::size_t{0}, std::size_t{1},
                                  std::size_t{0}, content.size(), std::size_t{0}, std::size_t{0}, std::size_t{major},
                                  std::size_t{minor}, name.size() + 1, std::size_t{0}}) {
    field(value);
  }
  archive += name + '\0';
  archive.resize((archive.size() + 3) / 4 * 4);
  archive += content;
  archive.resize((archive.size() + 3) / 4 * 4);
}

class LocalMachineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto kernel = read_text_file(blobs_folder() + "/bzImage");
    auto command_line = read_text_file(blobs_folder() + "/cmdline");
    if (!kernel || !command_line) GTEST_SKIP() << "no kernel in " << blobs_folder();
    auto init = read_text_file(NITRO_TEST_INIT);
    ASSERT_TRUE(init) << init.error().message();
    auto probe = probe_qemu();
    if (!probe) GTEST_SKIP() << probe.error().message();
    // With NITRO_TEST_MICROVM a QEMU that has the nitro-enclave machine shows what it does without.
    if (std::getenv("NITRO_TEST_MICROVM") != nullptr) probe->nitro_enclave_machine = false;

    std::string console;
    append_cpio(console, "dev", 0040755, 0, 0, "");
    append_cpio(console, "dev/console", 0020600, 5, 1, "");
    append_cpio(console, "TRAILER!!!", 0, 0, 0, "");
    std::string program;
    append_cpio(program, "init", 0100755, 0, 0, *init);
    append_cpio(program, "TRAILER!!!", 0, 0, 0, "");
    while (!command_line->empty() && command_line->back() == '\n') command_line->pop_back();
    image_ = Fd(::memfd_create("image", MFD_CLOEXEC));
    auto writer = eif::Writer::create(image_.get());
    ASSERT_OK(writer);
    ASSERT_OK(writer->add_kernel(eif::from_bytes(as_bytes(*kernel))));
    ASSERT_OK(writer->add_cmdline(*command_line));
    ASSERT_OK(writer->add_metadata({}));
    ASSERT_OK(writer->add_ramdisk(eif::from_bytes(as_bytes(console))));
    ASSERT_OK(writer->add_ramdisk(eif::from_bytes(as_bytes(program))));
    ASSERT_OK(writer->finish());

    auto reader = eif::Reader::open(Fd(::dup(image_.get())), "image");
    ASSERT_OK(reader);
    settings_.image.fd = image_.get();
    settings_.image.command_line = *command_line;
    for (const eif::Section& section : reader->sections()) {
      const BootSections::Range range{section.offset_bytes, section.size_bytes};
      if (section.type == eif::SectionType::kKernel) settings_.image.kernel = range;
      if (section.type == eif::SectionType::kRamdisk) settings_.image.ramdisks.push_back(range);
    }
    settings_.memory = MemorySize::from_mib(256);
    settings_.cid = 16;
    settings_.name = "test";
    settings_.enclave_id = "i-0123456789abcdef0-enc0123456789abcdef";
    settings_.folder = folder_.path() + "/test.vsock";
    settings_.debug_mode = true;
    settings_.qemu = *probe;

    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);

    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
  }

  void start() {
    started_ = Clock::now();
    QemuMachine::Events events;
    events.on_heartbeat = [this] { heartbeat_after_ = seconds_since(started_); };
    events.on_end = [this](ExitStatus status) { ended_ = status; };
    auto machine = QemuMachine::start(*loop_, settings_, std::move(events));
    ASSERT_TRUE(machine) << machine.error().message();
    machine_ = std::move(*machine);
  }

  void boot() {
    ASSERT_NO_FATAL_FAILURE(start());
    ASSERT_TRUE(run_until([this] { return heartbeat_after_ > 0 || ended_; }, 60s));
    ASSERT_GT(heartbeat_after_, 0) << machine_->stderr_tail();
  }

  bool run_until(const std::function<bool()>& condition, std::chrono::seconds timeout) {
    const auto deadline = Clock::now() + timeout;
    while (!condition()) {
      if (Clock::now() > deadline) return false;
      EXPECT_TRUE(loop_->run_once(20ms));
    }
    return true;
  }

  /// Runs `client`, which blocks as host programs do, beside the loop.
  template <class Client>
  auto beside(Client client) {
    auto result = std::async(std::launch::async, std::move(client));
    EXPECT_TRUE(run_until([&] { return result.wait_for(0s) == std::future_status::ready; }, 120s));
    return result.get();
  }

  /// As a host program does it: CONNECT, OK. Invalid when the guest refuses.
  Fd connect_guest(std::uint32_t port) const {
    auto socket = connect_unix(settings_.folder + "/connect");
    if (!socket) return {};
    const std::string line = "CONNECT " + std::to_string(port) + "\n";
    if (!write_all(socket->get(), as_bytes(line))) return {};
    std::string answer;
    for (char c = 0; c != '\n'; answer += c) {
      if (::read(socket->get(), &c, 1) != 1) return {};
    }
    return answer.starts_with("OK ") ? std::move(*socket) : Fd();
  }

  template <class T>
  static T exchange(int fd, const void* request, std::size_t size) {
    T answer{};
    EXPECT_TRUE(write_all(fd, std::span(static_cast<const std::byte*>(request), size)));
    EXPECT_TRUE(read_exact(fd, std::as_writable_bytes(std::span(&answer, 1))));
    return answer;
  }

  nitro::testing::TempFolder folder_;
  Fd image_;
  QemuMachineSettings settings_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<QemuMachine> machine_;
  Clock::time_point started_;
  double heartbeat_after_ = 0;
  std::optional<ExitStatus> ended_;
};

TEST_F(LocalMachineTest, BootsAndAnswersTheHeartbeat) {
  const auto probing = Clock::now();
  ASSERT_TRUE(probe_qemu());
  std::printf("probing QEMU: %.3f s\n", seconds_since(probing));
  ASSERT_NO_FATAL_FAILURE(boot());
  std::printf("start to heartbeat: %.3f s\n", heartbeat_after_);
  EXPECT_FALSE(ended_);
  EXPECT_GT(machine_->pid(), 0);
}

TEST_F(LocalMachineTest, EchoesWhatAHostProgramSends) {
  ASSERT_NO_FATAL_FAILURE(boot());
  const std::string text = beside([this] {
    const Fd socket = connect_guest(5005);
    EXPECT_TRUE(socket.valid());
    EXPECT_TRUE(write_all(socket.get(), as_bytes("hello")));
    std::string back(5, ' ');
    EXPECT_TRUE(read_exact(socket.get(), std::as_writable_bytes(std::span(back))));
    constexpr int kRounds = 1000;
    const auto start = Clock::now();
    for (int i = 0; i < kRounds; ++i) {
      EXPECT_TRUE(write_all(socket.get(), as_bytes("hello")));
      EXPECT_TRUE(read_exact(socket.get(), std::as_writable_bytes(std::span(back))));
    }
    std::printf("round trip: %.0f µs\n", seconds_since(start) / kRounds * 1e6);
    return back;
  });
  EXPECT_EQ(text, "hello");
}

TEST_F(LocalMachineTest, ClosesAConnectionToAPortOnWhichNobodyListens) {
  ASSERT_NO_FATAL_FAILURE(boot());
  EXPECT_FALSE(beside([this] { return connect_guest(4999).valid(); }));
}

TEST_F(LocalMachineTest, MovesManyBytesToTheGuestAndTellsItTheEnd) {
  ASSERT_NO_FATAL_FAILURE(boot());
  constexpr std::uint64_t kLength = std::uint64_t{64} << 20;
  const std::uint64_t counted = beside([this] {
    const Fd socket = connect_guest(5006);
    EXPECT_TRUE(socket.valid());
    std::vector<std::uint64_t> words(8192);
    const auto start = Clock::now();
    for (std::uint64_t sent = 0; sent < kLength; sent += words.size() * 8) {
      for (std::size_t i = 0; i < words.size(); ++i) words[i] = sent / 8 + i;
      EXPECT_TRUE(write_all(socket.get(), std::as_bytes(std::span(words))));
    }
    ::shutdown(socket.get(), SHUT_WR);
    std::uint64_t answer = 0;
    EXPECT_TRUE(read_exact(socket.get(), std::as_writable_bytes(std::span(&answer, 1))));
    std::printf("host to guest: %.0f MB/s\n", static_cast<double>(kLength) / 1e6 / seconds_since(start));
    return answer;
  });
  EXPECT_EQ(counted, kLength);
}

TEST_F(LocalMachineTest, MovesManyBytesFromTheGuest) {
  ASSERT_NO_FATAL_FAILURE(boot());
  static constexpr std::uint64_t kLength = std::uint64_t{256} << 20;
  const std::uint64_t right = beside([this] {
    const Fd socket = connect_guest(5007);
    EXPECT_TRUE(socket.valid());
    const auto start = Clock::now();
    EXPECT_TRUE(write_all(socket.get(), std::as_bytes(std::span(&kLength, 1))));
    std::vector<std::uint64_t> words(32768);
    std::uint64_t total = 0;
    for (;;) {
      const auto got = read_full(socket.get(), std::as_writable_bytes(std::span(words)));
      EXPECT_TRUE(got);
      if (!got || *got == 0) break;
      for (std::size_t i = 0; i < *got / 8; ++i) {
        if (words[i] != total / 8 + i) return std::uint64_t{0};
      }
      total += *got;
    }
    std::printf("guest to host: %.0f MB/s\n", static_cast<double>(kLength) / 1e6 / seconds_since(start));
    return total;
  });
  EXPECT_EQ(right, kLength);
}

TEST_F(LocalMachineTest, CarriesConnectionsOfTheGuestToAUnixSocketWithHalfClose) {
  ASSERT_NO_FATAL_FAILURE(boot());
  auto listener = listen_unix(settings_.folder + "/port_7000", 0600);
  ASSERT_TRUE(listener);
  ASSERT_TRUE(set_nonblocking(listener->fd.get(), false));
  const std::uint64_t answer = beside([&] {
    auto host = std::async(std::launch::async, [&] {
      const Fd accepted(::accept(listener->fd.get(), nullptr, nullptr));
      std::uint64_t total = 0;
      std::vector<std::byte> bytes(65536);
      for (;;) {
        const auto got = read_full(accepted.get(), bytes);
        if (!got || *got == 0) break;
        total += *got;
      }
      // The guest has half-closed; it still reads.
      EXPECT_TRUE(write_all(accepted.get(), std::as_bytes(std::span(&total, 1))));
    });
    const std::uint64_t request[2] = {7000, 10'000'000};
    const auto result = exchange<std::uint64_t>(connect_guest(5010).get(), request, sizeof request);
    host.get();
    return result;
  });
  EXPECT_EQ(answer, 10'000'000U);
}

TEST_F(LocalMachineTest, RefusesPortsOfTheHostOnWhichNobodyListensAndOtherCids) {
  ASSERT_NO_FATAL_FAILURE(boot());
  const auto error = [this](std::uint32_t cid, std::uint32_t port) {
    return beside([=, this] {
      const std::uint32_t request[2] = {cid, port};
      return exchange<std::uint32_t>(connect_guest(5009).get(), request, sizeof request);
    });
  };
  EXPECT_EQ(error(3, 7001), static_cast<std::uint32_t>(ECONNRESET));
  EXPECT_EQ(error(2, 7001), static_cast<std::uint32_t>(ECONNRESET));
  EXPECT_NE(error(77, 7001), 0U);
}

TEST_F(LocalMachineTest, CarriesFiveHundredConnectionsAtOnceInBothDirections) {
  ASSERT_NO_FATAL_FAILURE(boot());
  auto listener = listen_unix(settings_.folder + "/port_7002", 0600);
  ASSERT_TRUE(listener);
  ASSERT_TRUE(set_nonblocking(listener->fd.get(), false));
  constexpr std::uint32_t kCount = 500;
  std::thread host([&] {
    std::vector<std::thread> echoes;
    for (std::uint32_t i = 0; i < kCount; ++i) {
      echoes.emplace_back([accepted = Fd(::accept(listener->fd.get(), nullptr, nullptr))] {
        std::byte bytes[4];
        if (read_exact(accepted.get(), bytes)) static_cast<void>(write_all(accepted.get(), bytes));
        static_cast<void>(read_full(accepted.get(), bytes));
      });
    }
    for (auto& echo : echoes) echo.join();
  });
  const auto good = beside([this] {
    const std::uint32_t request[3] = {3, 7002, kCount};
    return exchange<std::uint32_t>(connect_guest(5008).get(), request, sizeof request);
  });
  EXPECT_EQ(good, kCount);
  run_until([&] { return machine_->vsock().connection_count() == 0; }, 60s);
  host.join();

  const auto echoed = beside([this] {
    std::vector<Fd> sockets;
    for (std::uint32_t i = 0; i < kCount; ++i) sockets.push_back(connect_guest(5005));
    std::uint32_t right = 0;
    for (std::uint32_t i = 0; i < kCount; ++i)
      EXPECT_TRUE(write_all(sockets[i].get(), std::as_bytes(std::span(&i, 1))));
    for (std::uint32_t i = 0; i < kCount; ++i) {
      std::uint32_t back = 0;
      if (read_exact(sockets[i].get(), std::as_writable_bytes(std::span(&back, 1))) && back == i) ++right;
    }
    return right;
  });
  EXPECT_EQ(echoed, kCount);
  EXPECT_TRUE(run_until([&] { return machine_->vsock().connection_count() == 0; }, 60s));
}

TEST_F(LocalMachineTest, ServesTheConsoleFromBootOn) {
  ASSERT_NO_FATAL_FAILURE(boot());
  const std::string text = beside([this] {
    auto socket = connect_unix(settings_.folder + "/console");
    EXPECT_TRUE(socket);
    std::string all;
    char piece[1024];
    while (all.find("test init: answered") == std::string::npos) {
      const ssize_t got = ::read(socket->get(), piece, sizeof piece);
      if (got <= 0) break;
      all.append(piece, static_cast<std::size_t>(got));
    }
    return all;
  });
  EXPECT_NE(text.find("Linux version"), std::string::npos);
  EXPECT_NE(text.find("test init: answered"), std::string::npos);
}

TEST_F(LocalMachineTest, EndsWhenTheGuestReboots) {
  ASSERT_NO_FATAL_FAILURE(boot());
  beside([this] { return connect_guest(5012).valid(); });
  ASSERT_TRUE(run_until([this] { return ended_.has_value(); }, 60s)) << machine_->console_tail();
  EXPECT_TRUE(ended_->success()) << ended_->to_string();
}

TEST_F(LocalMachineTest, EndsWhenItIsStopped) {
  ASSERT_NO_FATAL_FAILURE(boot());
  ASSERT_TRUE(machine_->stop());
  ASSERT_TRUE(run_until([this] { return ended_.has_value(); }, 60s));
  EXPECT_EQ(ended_->signal, SIGKILL);
  machine_.reset();
  EXPECT_FALSE(std::filesystem::exists(settings_.folder));
}

/// Not a test: the process that the next test kills. It tells QEMU's process id and runs.
TEST_F(LocalMachineTest, DISABLED_RunsUntilItIsKilled) {
  const char* folder = std::getenv("NITRO_TEST_FOLDER");
  ASSERT_NE(folder, nullptr);
  settings_.folder = folder;
  ASSERT_NO_FATAL_FAILURE(boot());
  std::fprintf(stderr, "%d\n", machine_->pid());
  run_until([] { return false; }, 60s);
}

TEST_F(LocalMachineTest, TakesQemuAlongWhenItsProcessIsKilled) {
  const nitro::testing::ScopedEnvironment folder("NITRO_TEST_FOLDER", settings_.folder.c_str());
  // The folder of its own, which it cannot remove, goes with ours.
  const nitro::testing::ScopedEnvironment temporary("TMPDIR", folder_.path().c_str());
  auto pipe = make_pipe();
  ASSERT_OK(pipe);
  ChildOptions options;
  options.arguments = {"/proc/self/exe", "--gtest_also_run_disabled_tests",
                       "--gtest_filter=LocalMachineTest.DISABLED_RunsUntilItIsKilled"};
  options.stderr_fd = pipe->second.get();
  auto process = Child::spawn(options);
  ASSERT_OK(process);
  pipe->second.reset();
  std::string line;
  for (char c = 0; c != '\n'; line += c) ASSERT_EQ(::read(pipe->first.get(), &c, 1), 1) << line;
  const pid_t qemu = std::stoi(line);
  ASSERT_GT(qemu, 1);
  EXPECT_EQ(::kill(qemu, 0), 0);
  EXPECT_FALSE(remove_stale_local_folder(settings_.folder)) << "it runs";

  EXPECT_OK(process->send_signal(SIGKILL));
  EXPECT_OK(process->wait());
  // Its new parent reaps it at leisure; a zombie has no memory any more.
  const std::string status_file = "/proc/" + std::to_string(qemu) + "/statm";
  EXPECT_TRUE(run_until(
      [&] {
        const auto statm = read_text_file(status_file);
        return !statm || statm->starts_with("0 ");
      },
      60s));
  EXPECT_TRUE(std::filesystem::exists(settings_.folder));
  EXPECT_OK(remove_stale_local_folder(settings_.folder));
  EXPECT_FALSE(std::filesystem::exists(settings_.folder));
}

TEST_F(LocalMachineTest, KeepsTheConsoleToItselfWithoutDebugMode) {
  settings_.debug_mode = false;
  ASSERT_NO_FATAL_FAILURE(boot());
  EXPECT_FALSE(connect_unix(settings_.folder + "/console"));
  EXPECT_EQ(machine_->console_tail(), "");
}

TEST_F(LocalMachineTest, ShowsTheLastWordsOfAQemuThatDiesAtStart) {
  settings_.cpu_count = 100000;
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_TRUE(run_until([this] { return ended_.has_value(); }, 60s));
  EXPECT_FALSE(ended_->success());
  EXPECT_NE(machine_->stderr_tail().find("CPUs"), std::string::npos) << machine_->stderr_tail();
}

}  // namespace
}  // namespace nitro::proc
