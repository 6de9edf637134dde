// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu_enclave.h"

#include <fmt/format.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <set>

#include "enclave_proc/machine/enclave_id.h"
#include "enclave_proc/qemu/qemu_machine.h"
#include "enclave_proc/qemu/qemu_user.h"
#include "enclave_proc/registry/folder_lock.h"

namespace nitro::proc {
namespace {

/// The last CID that is tried when the user names none; a machine cannot hold more enclaves than that.
constexpr std::uint64_t kLastAutomaticCid = kFirstEnclaveCid + 65536;

Result<std::vector<std::uint32_t>> choose_cpus(const RunRequest& request) {
  const auto online = static_cast<std::uint32_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  NITRO_CHECK(check_cpus(request));
  if (const auto* wanted = std::get_if<std::vector<std::uint32_t>>(&request.cpus)) {
    std::set<std::uint32_t> seen;
    for (const std::uint32_t id : *wanted) {
      if (!seen.insert(id).second)
        return fail(ErrorCode::kInvalidCpuConfiguration, fmt::format("CPU {} is named twice", id));
      if (id >= online) {
        return fail(ErrorCode::kNoSuchCpuInPool,
                    fmt::format("CPU {} does not exist on this machine, which has 0 to {}", id, online - 1));
      }
    }
    return *wanted;
  }
  const auto count = std::get<std::uint32_t>(request.cpus);
  if (count > online) {
    return fail(ErrorCode::kInsufficientCpus,
                fmt::format("{} CPUs were requested, but this machine has {}", count, online));
  }
  // Virtual CPUs are not bound to physical ones; the numbers only say how many there are.
  std::vector<std::uint32_t> ids(count);
  for (std::uint32_t i = 0; i < count; ++i) ids[i] = i;
  return ids;
}

Result<void> check_memory(MemorySize memory) {
  struct sysinfo info {};
  if (::sysinfo(&info) != 0)
    return fail_errno(ErrorCode::kInsufficientMemoryAvailable, "asking how much memory there is");
  const auto total = MemorySize::from_bytes(static_cast<std::uint64_t>(info.totalram) * info.mem_unit);
  if (memory > total) {
    return fail(ErrorCode::kInsufficientMemoryAvailable,
                fmt::format("{} MiB were requested, but this machine has {} MiB", memory.mib(), total.mib()));
  }
  return {};
}

/// Returns a number with 16 hexadecimal digits, like those that the driver assigns.
std::uint64_t random_slot() {
  std::random_device random;
  return (std::uint64_t{random()} << 32 | random()) | std::uint64_t{1} << 60;
}

class QemuEnclave final : public Machine {
 public:
  QemuEnclave(const RunRequest& request, eif::Reader image, SocketsFolder folder, std::vector<std::uint32_t> cpu_ids)
      : request_(request), image_(std::move(image)), folder_(std::move(folder)), cpu_ids_(std::move(cpu_ids)) {}

  Result<EnclaveResources> start(EventLoop& loop, MachineEvents events) override {
    EnclaveResources resources{
        .slot_uid = random_slot(), .enclave_cid = 0, .cpu_ids = cpu_ids_, .memory = request_.memory};
    NITRO_TRY(resources.enclave_cid, take_cid());
    const std::string id = enclave_id(resources.slot_uid);
    QemuMachineSettings settings;
    NITRO_TRY(settings.image, boot_sections());
    settings.memory = request_.memory;
    settings.cpu_count = static_cast<unsigned>(cpu_ids_.size());
    settings.cid = resources.enclave_cid;
    settings.name = request_.enclave_name;
    settings.enclave_id = id;
    settings.folder = folder_.path_of(local_folder_name(id));
    settings.debug_mode = request_.debug_mode;
    NITRO_TRY(settings.qemu,
              probe_qemu([&resources](bool kvm) { return qemu_user(resources.slot_uid, kvm ? "/dev/kvm" : nullptr); }));
    if (!settings.qemu.sandbox) events.on_remark("QEMU cannot filter its system calls, so it runs without a filter");
    if (!settings.qemu.user && ::geteuid() == 0) {
      events.on_remark(
          "QEMU runs as root, without capabilities: it could not use KVM, or not be started, as another user");
    }
    NITRO_TRY(machine_, QemuMachine::start(loop, settings,
                                           {.on_heartbeat = std::move(events.on_heartbeat),
                                            .on_end = [on_end = std::move(events.on_end)](ExitStatus status) {
                                              on_end(fmt::format("its machine {}", status.to_string()));
                                            }}));
    return resources;
  }

  [[nodiscard]] int image_fd() const override { return image_.fd(); }

  [[nodiscard]] std::chrono::milliseconds boot_timeout() const override {
    return boot_timeout_for(image_.file_size_bytes(), request_.memory.bytes());
  }

  Result<void> stop() override {
    machine_.reset();
    cid_.give_back();
    return {};
  }

  [[nodiscard]] pid_t engine() const override { return machine_ ? machine_->pid() : -1; }
  [[nodiscard]] std::string stderr_tail() const override { return machine_ ? machine_->stderr_tail() : std::string(); }

 private:
  Result<std::uint64_t> take_cid() {
    const std::uint64_t first = request_.enclave_cid.value_or(kFirstEnclaveCid);
    const std::uint64_t last = request_.enclave_cid.value_or(kLastAutomaticCid);
    for (std::uint64_t cid = first; cid <= last; ++cid) {
      NITRO_TRY(cid_, hold_cid(folder_, static_cast<std::uint32_t>(cid)));
      if (cid_) return cid;
    }
    return fail(ErrorCode::kIoctlEnclaveStart, request_.enclave_cid
                                                   ? fmt::format("another enclave has the CID {}", first)
                                                   : fmt::format("all CIDs from {} to {} are taken", first, last));
  }

  Result<BootSections> boot_sections() {
    const auto range = [](const eif::Section& section) {
      return BootSections::Range{.offset = section.offset_bytes, .size = section.size_bytes};
    };
    BootSections sections;
    sections.fd = image_.fd();
    NITRO_TRY(sections.command_line, image_.command_line());
    for (const eif::Section& section : image_.sections()) {
      if (section.type == eif::SectionType::kKernel) sections.kernel = range(section);
      if (section.type == eif::SectionType::kRamdisk) sections.ramdisks.push_back(range(section));
    }
    return sections;
  }

  RunRequest request_;
  eif::Reader image_;
  SocketsFolder folder_;
  std::vector<std::uint32_t> cpu_ids_;
  FolderLock cid_;
  std::unique_ptr<QemuMachine> machine_;
};

}  // namespace

Result<std::unique_ptr<Machine>> make_qemu_enclave(const RunRequest& request, eif::Reader image,
                                                   const SocketsFolder& folder) {
  NITRO_TRY(auto cpu_ids, choose_cpus(request));
  NITRO_CHECK(check_memory(request.memory));
  return std::unique_ptr<Machine>(std::make_unique<QemuEnclave>(request, std::move(image), folder, std::move(cpu_ids)));
}

}  // namespace nitro::proc
