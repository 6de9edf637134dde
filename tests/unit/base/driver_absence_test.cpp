// SPDX-License-Identifier: Apache-2.0
#include "src/base/driver_absence.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "temp_folder.h"

namespace nitro {
namespace {

constexpr const char* kDebian12 = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n";

/// A made-up machine; at first, an EC2 instance with enclaves enabled and a kernel whose modules nobody knows.
class DriverAbsence : public ::testing::Test {
 protected:
  DriverAbsence() {
    write("sys/bus/pci/devices/0000:00:03.0/vendor", "0x8086\n");
    write("sys/bus/pci/devices/0000:00:03.0/device", "0x1237\n");
    write("sys/bus/pci/devices/0000:00:04.0/vendor", "0x1d0f\n");
    write("sys/bus/pci/devices/0000:00:04.0/device", "0xe4c1\n");
    write("sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
    write("proc/sys/kernel/osrelease", "6.1.0-9-cloud-amd64\n");
  }

  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = folder_ / path;
    std::filesystem::create_directories(file.parent_path());
    testing::write_file(file, text);
  }
  void remove(const std::string& path) const { std::filesystem::remove_all(folder_ / path); }
  void has_modules(const std::string& list, const std::string& release = "6.1.0-9-cloud-amd64") const {
    write("lib/modules/" + release + "/modules.dep", list);
  }
  [[nodiscard]] std::string why() const { return why_no_driver({.root = folder_.path()}); }
  [[nodiscard]] bool says(const std::string& words) const { return why().find(words) != std::string::npos; }

  testing::TempFolder folder_;
};

TEST_F(DriverAbsence, IsAModuleThatIsNotLoaded) {
  for (const char* line :
       {"kernel/drivers/virt/nitro_enclaves/nitro_enclaves.ko:", "updates/nitro_enclaves.ko.xz: kernel/a.ko",
        "extra/nitro-enclaves.ko.zst:", "nitro_enclaves.ko:"}) {
    has_modules("kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko\n" + std::string(line) + "\nkernel/net/z.ko:\n");
    EXPECT_EQ(why(), "the driver nitro_enclaves is not loaded: modprobe nitro_enclaves") << line;
  }
}

TEST_F(DriverAbsence, IsAKernelWithoutTheModule) {
  for (const char* list : {"", "kernel/fs/ext4/ext4.ko:\n", "kernel/a/b.ko: kernel/nitro_enclaves.ko\n",
                           "kernel/my_nitro_enclaves.ko:", "kernel/nitro_enclaves_test.ko:\n", "\n\n:\n"}) {
    has_modules(list);
    EXPECT_EQ(
        why(),
        "the kernel 6.1.0-9-cloud-amd64 has no driver nitro_enclaves: use a kernel with CONFIG_NITRO_ENCLAVES, or "
        "build the driver: build-driver(8)")
        << list;
  }
}

TEST_F(DriverAbsence, NamesThePackageOfTheDistribution) {
  has_modules("");
  write("etc/os-release", kDebian12);
  EXPECT_TRUE(says("install linux-image-6.12-")) << why();
  EXPECT_TRUE(says("build-driver(8)")) << why();
  write("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n");
  EXPECT_TRUE(says("of Debian 13 or later")) << why();
  write("etc/os-release", "ID=debian\nVERSION_CODENAME=forky\n");
  EXPECT_TRUE(says("of Debian 13 or later")) << why();
  write("etc/os-release", "ID='ubuntu'\n");
  EXPECT_TRUE(says("install linux-modules-extra-6.1.0-9-cloud-amd64")) << why();
  write("etc/os-release", "ID=\"amzn\"\nVERSION_ID=\"2023\"\n");
  EXPECT_TRUE(says("install the newest package kernel")) << why();
  for (const char* other : {"", "ID=gentoo\n", "ID=", "=\n\n==\nID", "ID_LIKE=debian\n"}) {
    write("etc/os-release", other);
    EXPECT_TRUE(says("use a kernel with CONFIG_NITRO_ENCLAVES")) << other << ": " << why();
  }
}

TEST_F(DriverAbsence, IsTheDeviceThatIsMissing) {
  has_modules("kernel/nitro_enclaves.ko:\n");
  remove("sys/bus/pci/devices/0000:00:04.0");
  EXPECT_TRUE(says("enclaves are not enabled for this EC2 instance")) << why();
  EXPECT_TRUE(says("--enclave-options Enabled=true")) << why();
  write("sys/class/dmi/id/sys_vendor", "QEMU\n");
  EXPECT_EQ(why(), "this machine, of \"QEMU\", is not an EC2 instance with enclaves enabled");
  remove("sys/class/dmi");
  EXPECT_EQ(why(), "this machine is not an EC2 instance with enclaves enabled");
  // Loading the driver does not help then.
  write("sys/module/nitro_enclaves/parameters/ne_cpus", "\n");
  EXPECT_EQ(why(), "this machine is not an EC2 instance with enclaves enabled");
}

TEST_F(DriverAbsence, IsADriverThatCannotUseTheDevice) {
  write("sys/module/nitro_enclaves/parameters/ne_cpus", "\n");
  EXPECT_TRUE(says("is loaded, but has no device: check the kernel log")) << why();
}

TEST_F(DriverAbsence, IsAContainerThatWasNotGivenTheDevice) {
  write("sys/module/nitro_enclaves/parameters/ne_cpus", "\n");
  write("sys/class/misc/nitro_enclaves/dev", "10:122\n");
  EXPECT_TRUE(says("docker run --device /dev/nitro_enclaves")) << why();
}

TEST_F(DriverAbsence, CopesWithFilesThatAreNotThere) {
  const std::string unknown =
      "the driver nitro_enclaves is not loaded: modprobe nitro_enclaves, on an EC2 instance with enclaves enabled (in "
      "a "
      "container: on its host)";
  EXPECT_EQ(why(), unknown);
  remove("sys");
  EXPECT_EQ(why(), unknown);
  remove("proc");
  EXPECT_EQ(why(), unknown);
  write("lib/modules/modules.dep", "nitro_enclaves.ko:\n");
  EXPECT_EQ(why(), unknown);
}

TEST_F(DriverAbsence, DoesNotLeaveTheFolderOfModules) {
  write("lib/modules.dep", "nitro_enclaves.ko:\n");
  write("lib/modules/x", "");
  for (const std::string& release : std::vector<std::string>{"..", "a/..", "/", std::string(1000, 'x'), ""}) {
    write("proc/sys/kernel/osrelease", release + "\n");
    EXPECT_TRUE(says("on its host")) << release << ": " << why();
  }
}

TEST_F(DriverAbsence, ShowsStrangeTextsHarmlessly) {
  write("proc/sys/kernel/osrelease", "a\x1b[31mb\n");
  has_modules("", "a\x1b[31mb");
  EXPECT_EQ(why().find('\x1b'), std::string::npos) << why();
  remove("sys/bus/pci/devices/0000:00:04.0");
  write("sys/class/dmi/id/sys_vendor", "\"\x1b]0;x\x07\n");
  EXPECT_EQ(why().find('\x1b'), std::string::npos) << why();
  write("sys/bus/pci/devices/0000:00:03.0/vendor", std::string(100000, 'x'));
  EXPECT_EQ(why().find('\x1b'), std::string::npos) << why();
}

}  // namespace
}  // namespace nitro
