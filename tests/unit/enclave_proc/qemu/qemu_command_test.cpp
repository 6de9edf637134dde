// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu_command.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "enclave_proc/qemu/qemu_probe.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

using Arguments = std::vector<std::string>;

QemuSettings settings() {
  QemuSettings settings;
  settings.binary = "qemu-system-x86_64";
  settings.memory = MemorySize::from_mib(512);
  settings.cpu_count = 2;
  settings.vhost_user_fd = 7;
  settings.name = "hello";
  settings.enclave_id = "i-1-enc2";
  settings.image = "/proc/self/fd/8";
  settings.kernel = "/proc/self/fd/9";
  settings.ramdisk = "/proc/self/fd/10";
  settings.command_line = "reboot=k console=ttyS0";
  return settings;
}

constexpr const char* kSandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

TEST(QemuCommand, BootsKernelAndRamdisksOnAMicrovm) {
  EXPECT_EQ(qemu_arguments(settings()),
            (Arguments{"qemu-system-x86_64",
                       "-name",
                       "guest=hello",
                       "-nodefaults",
                       "-no-user-config",
                       "-sandbox",
                       kSandbox,
                       "-M",
                       "microvm,acpi=off,memory-backend=memory,x-option-roms=off,isa-serial=on,rtc=on",
                       "-accel",
                       "tcg",
                       "-cpu",
                       "max",
                       "-smp",
                       "2",
                       "-m",
                       "512M",
                       "-object",
                       "memory-backend-memfd,id=memory,size=512M,share=on",
                       "-kernel",
                       "/proc/self/fd/9",
                       "-initrd",
                       "/proc/self/fd/10",
                       "-append",
                       "reboot=k console=ttyS0 no_timer_check",
                       "-chardev",
                       "socket,id=vsock,fd=7",
                       "-device",
                       "vhost-user-vsock-device,chardev=vsock",
                       "-device",
                       "i8042",
                       "-display",
                       "none",
                       "-monitor",
                       "none",
                       "-serial",
                       "stdio",
                       "-no-reboot"}));
}

TEST(QemuCommand, BootsTheImageItselfOnTheNitroEnclaveMachine) {
  QemuSettings nitro = settings();
  nitro.machine = QemuMachineType::kNitroEnclave;
  nitro.firmware_folders = {"/usr/share/seabios", "/usr/share/qemu"};
  nitro.sandbox = false;
  EXPECT_EQ(qemu_arguments(nitro), (Arguments{"qemu-system-x86_64",
                                              "-name",
                                              "guest=hello",
                                              "-nodefaults",
                                              "-no-user-config",
                                              "-L",
                                              "/usr/share/seabios",
                                              "-L",
                                              "/usr/share/qemu",
                                              "-M",
                                              "nitro-enclave,vsock=vsock,id=i-1-enc2",
                                              "-accel",
                                              "tcg",
                                              "-cpu",
                                              "max",
                                              "-smp",
                                              "2",
                                              "-m",
                                              "512M",
                                              "-kernel",
                                              "/proc/self/fd/8",
                                              "-chardev",
                                              "socket,id=vsock,fd=7",
                                              "-device",
                                              "i8042",
                                              "-display",
                                              "none",
                                              "-monitor",
                                              "none",
                                              "-serial",
                                              "stdio",
                                              "-no-reboot"}));
}

TEST(QemuCommand, UsesKvmAndTheHostsProcessorWhenTold) {
  QemuSettings kvm = settings();
  kvm.accelerator = QemuAccelerator::kKvm;
  kvm.machine = QemuMachineType::kVirt;
  kvm.binary = "qemu-system-aarch64";
  EXPECT_EQ(qemu_arguments(kvm), (Arguments{"qemu-system-aarch64",
                                            "-name",
                                            "guest=hello",
                                            "-nodefaults",
                                            "-no-user-config",
                                            "-sandbox",
                                            kSandbox,
                                            "-M",
                                            "virt,memory-backend=memory,gic-version=max",
                                            "-accel",
                                            "kvm",
                                            "-cpu",
                                            "host",
                                            "-smp",
                                            "2",
                                            "-m",
                                            "512M",
                                            "-object",
                                            "memory-backend-memfd,id=memory,size=512M,share=on",
                                            "-kernel",
                                            "/proc/self/fd/9",
                                            "-initrd",
                                            "/proc/self/fd/10",
                                            "-append",
                                            "reboot=k console=ttyS0",
                                            "-chardev",
                                            "socket,id=vsock,fd=7",
                                            "-device",
                                            "vhost-user-vsock-device,chardev=vsock",
                                            "-display",
                                            "none",
                                            "-monitor",
                                            "none",
                                            "-serial",
                                            "stdio",
                                            "-no-reboot"}));
}

/// How QEMU reads a list of options (util/qemu-option.c): a comma ends a value unless it stands there twice, the first
/// '=' ends a key, and a value without one is taken for a key of its own.
std::vector<std::pair<std::string, std::string>> as_qemu_reads(std::string_view list) {
  std::vector<std::pair<std::string, std::string>> options;
  while (true) {
    std::string option;
    std::size_t i = 0;
    for (; i < list.size() && (list[i] != ',' || list.substr(i, 2) == ",,"); ++i) {
      option += list[i];
      if (list[i] == ',') ++i;
    }
    const std::size_t equals = option.find('=');
    options.emplace_back(option.substr(0, equals), equals == std::string::npos ? "" : option.substr(equals + 1));
    if (i == list.size()) return options;
    list.remove_prefix(i + 1);
  }
}

TEST(QemuCommand, HandsEveryNameOnAsItIs) {
  for (const std::string name : {"a=b",
                                 "=",
                                 "a,b",
                                 ",",
                                 ",,",
                                 ",,,",
                                 "a,process=evil",
                                 "a,,process=evil",
                                 "=,=",
                                 "process=x",
                                 "guest=y",
                                 "debug-threads=on",
                                 "%s%n",
                                 "-display",
                                 "--",
                                 "help",
                                 "?",
                                 " with spaces ",
                                 "two\nlines",
                                 "\t",
                                 "\"quoted\"",
                                 "$(id)",
                                 "\\,",
                                 "größe",
                                 "名前",
                                 "id=vsock,fd=0"}) {
    QemuSettings odd = settings();
    odd.name = name;
    odd.enclave_id = name;
    odd.machine = QemuMachineType::kNitroEnclave;
    const Arguments arguments = qemu_arguments(odd);
    using Options = std::vector<std::pair<std::string, std::string>>;
    EXPECT_EQ(as_qemu_reads(arguments[2]), (Options{{"guest", name}}));
    const auto machine = std::find(arguments.begin(), arguments.end(), "-M");
    EXPECT_EQ(as_qemu_reads(machine[1]), (Options{{"nitro-enclave", ""}, {"vsock", "vsock"}, {"id", name}}));
  }
}

TEST(QemuProbe, ReadsTheVersion) {
  EXPECT_EQ(parse_qemu_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright"),
            (QemuVersion{7, 2}));
  EXPECT_EQ(parse_qemu_version("QEMU emulator version 10.0.2\n"), (QemuVersion{10, 0}));
  for (const char* bad :
       {"", "QEMU", "QEMU emulator version", "QEMU emulator version x.y", "QEMU emulator version 7", "bash 5.2"}) {
    EXPECT_FALSE(parse_qemu_version(bad)) << bad;
  }
  EXPECT_LT((QemuVersion{7, 1}), kOldestQemu);
  EXPECT_GT((QemuVersion{10, 0}), kOldestQemu);
}

TEST(QemuProbe, FindsAMachineByItsWholeName) {
  const char* help =
      "Supported machines are:\nmicrovm              microvm (i386)\nnitro-enclave        AWS Nitro Enclave\n";
  EXPECT_TRUE(lists_machine(help, "nitro-enclave"));
  EXPECT_TRUE(lists_machine(help, "microvm"));
  EXPECT_FALSE(lists_machine(help, "nitro"));
  EXPECT_FALSE(lists_machine("", "nitro"));
}

/// A program that stands for QEMU.
class FakeQemu {
 public:
  explicit FakeQemu(const std::string& script) : variable_("NITRO_CLI_QEMU", (folder_ / "qemu").c_str()) {
    nitro::testing::write_file(folder_ / "qemu", "#!/bin/sh\n" + script);
    std::filesystem::permissions(folder_ / "qemu", std::filesystem::perms::owner_all);
  }

 private:
  nitro::testing::TempFolder folder_;
  nitro::testing::ScopedEnvironment variable_;
};

TEST(QemuProbe, TellsMachinesAndSandboxOfTheBinaryThatIsNamed) {
  const FakeQemu qemu(
      "case \"$*\" in --version) echo 'QEMU emulator version 9.2.0';; *-sandbox*) exit 1;; *) echo 'nitro-enclave  "
      "x';; esac");
  const auto probe = probe_qemu();
  ASSERT_OK(probe);
  EXPECT_FALSE(probe->sandbox);
  EXPECT_TRUE(probe->nitro_enclave_machine);
}

TEST(QemuProbe, RefusesAQemuThatIsTooOld) {
  const FakeQemu qemu("echo 'QEMU emulator version 6.2.0'");
  const auto probe = probe_qemu();
  ASSERT_FALSE(probe);
  EXPECT_EQ(probe.error().code(), ErrorCode::kEnclaveBoot);
  EXPECT_NE(probe.error().message().find("6.2"), std::string::npos) << probe.error().message();
}

TEST(QemuProbe, RefusesWhatIsNotAQemu) {
  const FakeQemu qemu("echo hello");
  EXPECT_FALSE(probe_qemu());
  const nitro::testing::ScopedEnvironment variable("NITRO_CLI_QEMU", "/nonexistent/qemu");
  const auto probe = probe_qemu();
  ASSERT_FALSE(probe);
  EXPECT_EQ(probe.error().system_errno(), ENOENT);
}

}  // namespace
}  // namespace nitro::proc
