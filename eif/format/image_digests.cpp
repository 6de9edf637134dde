// SPDX-License-Identifier: Apache-2.0
#include "eif/format/image_digests.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "eif/format/digest.h"

namespace nitro::eif {
namespace {

// 3 MiB in all: enough for the threads to continue while the caller waits for the disk.
constexpr std::size_t kBufferCount = 12;
// Below this a thread costs more than it saves; kernels and bootstrap ramdisks alone are hashed inline.
constexpr std::size_t kInlineBytes = std::size_t{4} << 20;

}  // namespace

struct ImageDigests::Shared {
  enum class Step { kUpdate, kFork, kUpdateBoth };
  struct Work {
    Step step = Step::kUpdate;
    Buffer* buffer = nullptr;  // nullptr for kFork
    std::size_t size_bytes = 0;
  };
  // A hash and its input queue, in order; `fork` is used for PCR1 only.
  struct Lane {
    explicit Lane(Digest digest) : main(std::move(digest)) {}
    // Owned by the thread that has set `busy`.
    Digest main;
    std::optional<Digest> fork;
    std::optional<Error> failure;
    // Protected by the mutex.
    std::deque<Work> queue;
    bool busy = false;
  };

  Shared(Digest image, Digest app, HashAlgorithm chosen)
      : algorithm(chosen), lanes{Lane(std::move(image)), Lane(std::move(app))} {}

  static void carry_out(Lane& lane, const Work& work) {
    if (work.step == Step::kFork) {
      if (auto copy = lane.main.fork()) {
        lane.fork.emplace(std::move(*copy));
      } else {
        lane.failure = copy.error();
      }
      return;
    }
    const auto bytes = work.buffer->bytes().first(work.size_bytes);
    lane.main.update(bytes);
    if (work.step == Step::kUpdateBoth && lane.fork) lane.fork->update(bytes);
  }

  // Does the oldest work of the lane that is furthest behind. Returns false if no idle lane has work.
  bool work_once(std::unique_lock<std::mutex>& lock) {
    Lane* next = nullptr;
    for (Lane& lane : lanes) {
      if (lane.busy || lane.queue.empty()) continue;
      if (next == nullptr || lane.queue.size() > next->queue.size()) next = &lane;
    }
    if (next == nullptr) return false;
    next->busy = true;
    const Work work = next->queue.front();
    next->queue.pop_front();
    lock.unlock();
    carry_out(*next, work);
    lock.lock();
    next->busy = false;
    if (work.buffer != nullptr) --work.buffer->users_;
    changed.notify_all();
    return true;
  }

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      if (abandoned) return;
      if (work_once(lock)) continue;
      if (stopping && idle()) return;
      changed.wait(lock);
    }
  }

  // No work is waiting to be started.
  [[nodiscard]] bool idle() const {
    return std::all_of(lanes.begin(), lanes.end(), [](const Lane& lane) { return lane.queue.empty(); });
  }

  void give(Lane& lane, const Work& work) {
    if (threads.empty()) {
      carry_out(lane, work);
      return;
    }
    const std::scoped_lock lock(mutex);
    if (work.buffer != nullptr) ++work.buffer->users_;
    lane.queue.push_back(work);
    changed.notify_all();
  }

  void drop(Buffer& buffer) {
    const std::scoped_lock lock(mutex);
    --buffer.users_;
  }

  // The caller works too, so that as many threads are busy as there are processors, but never more than have work.
  void start_threads() {
    const std::size_t count = std::min<std::size_t>(lanes.size(), std::thread::hardware_concurrency() - 1);
    try {
      while (threads.size() < count) threads.emplace_back([this] { run(); });
    } catch (const std::system_error&) {
      // No thread could be created (a limit of the user or the container); hashing is then only slower.
      threads_allowed = false;
    }
  }

  void join(bool abandon) {
    {
      std::unique_lock lock(mutex);
      stopping = true;
      abandoned = abandon;
      changed.notify_all();
      while (!abandon && work_once(lock)) {
      }
    }
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }

  HashAlgorithm algorithm;
  bool threads_allowed = false;
  std::size_t hashed_inline = 0;

  SectionType section = SectionType::kInvalid;
  int ramdisks = 0;

  std::mutex mutex;
  std::condition_variable changed;  // work is available or done, a buffer is free, or the end is near
  bool stopping = false;
  bool abandoned = false;
  std::array<Buffer, kBufferCount> buffers;
  std::array<Lane, 2> lanes;  // PCR0 with PCR1; PCR2
  std::vector<std::thread> threads;
};

ImageDigests::ImageDigests(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}
ImageDigests::ImageDigests(ImageDigests&&) noexcept = default;
ImageDigests& ImageDigests::operator=(ImageDigests&& other) noexcept {
  std::swap(shared_, other.shared_);
  return *this;
}
ImageDigests::~ImageDigests() {
  if (shared_) shared_->join(true);
}

Result<ImageDigests> ImageDigests::create(HashAlgorithm algorithm, bool threads) {
  NITRO_TRY(Digest image, Digest::create(algorithm));
  NITRO_TRY(Digest app, Digest::create(algorithm));
  auto shared = std::make_unique<Shared>(std::move(image), std::move(app), algorithm);
  shared->threads_allowed = threads && std::thread::hardware_concurrency() > 1;
  return ImageDigests(std::move(shared));
}

Result<void> ImageDigests::start_section(SectionType type) {
  shared_->section = type;
  if (type == SectionType::kRamdisk && ++shared_->ramdisks == 2) {
    shared_->give(shared_->lanes[0], {.step = Shared::Step::kFork});
  }
  return {};
}

ImageDigests::Buffer& ImageDigests::acquire() {
  std::unique_lock lock(shared_->mutex);
  for (;;) {
    for (Buffer& buffer : shared_->buffers) {
      if (buffer.users_ != 0) continue;
      buffer.users_ = 1;
      // Allocated on first use: a small image never uses more than one buffer.
      if (!buffer.memory_) buffer.memory_ = std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
      return buffer;
    }
    if (!shared_->work_once(lock)) shared_->changed.wait(lock);
  }
}

void ImageDigests::hash(Buffer& buffer, std::size_t size_bytes) {
  Shared& shared = *shared_;
  const bool ramdisk = shared.section == SectionType::kRamdisk;
  if (!ramdisk && shared.section != SectionType::kKernel && shared.section != SectionType::kCmdline) return;

  if (shared.threads_allowed && shared.threads.empty()) {
    shared.hashed_inline += size_bytes;
    if (shared.hashed_inline > kInlineBytes) shared.start_threads();
  }
  const bool later_ramdisk = ramdisk && shared.ramdisks > 1;
  shared.give(shared.lanes[0], {.step = later_ramdisk ? Shared::Step::kUpdate : Shared::Step::kUpdateBoth,
                                .buffer = &buffer,
                                .size_bytes = size_bytes});
  if (later_ramdisk) shared.give(shared.lanes[1], {.buffer = &buffer, .size_bytes = size_bytes});
}

void ImageDigests::release(Buffer& buffer) {
  shared_->drop(buffer);
}

Result<Measurements> ImageDigests::finish() {
  shared_->join(false);
  auto& [image, app] = shared_->lanes;
  if (image.failure) return Failure(*image.failure);
  if (!image.fork) {
    // Fewer than two ramdisks: the two registers cover the same content.
    NITRO_TRY(auto copy, image.main.fork());
    image.fork.emplace(std::move(copy));
  }
  Measurements measurements{.algorithm = shared_->algorithm};
  NITRO_TRY(measurements.pcr0, image.main.finish_as_pcr());
  NITRO_TRY(measurements.pcr1, image.fork->finish_as_pcr());
  NITRO_TRY(measurements.pcr2, app.main.finish_as_pcr());
  return measurements;
}

}  // namespace nitro::eif
