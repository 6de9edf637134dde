// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/relay/relay_pool.h"

#include <sys/epoll.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "vsock_proxy/relay/bell.h"

namespace nitro::proxy {

/// A thread and what it is given.
class RelayPool::Worker {
 public:
  static Result<std::unique_ptr<Worker>> create(std::size_t pipes) {
    auto worker = std::make_unique<Worker>();
    NITRO_TRY(worker->loop_, EventLoop::create());
    NITRO_TRY(worker->bell_, Bell::create());
    NITRO_TRY(worker->bell_watch_, worker->loop_->watch_fd(worker->bell_.fd(), EPOLLIN,
                                                           [own = worker.get()](std::uint32_t) { own->take_jobs(); }));
    try {
      worker->thread_ = std::thread([own = worker.get(), pipes] { own->run(pipes); });
    } catch (const std::system_error& error) {
      return fail_errno(ErrorCode::kThreadJoin, "starting a thread", error.code().value());
    }
    return worker;
  }

  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() {
    if (!thread_.joinable()) return;
    {
      const std::scoped_lock lock(mutex_);
      ending_ = true;
    }
    bell_.ring();
    thread_.join();
  }

  void add(RelayJob job) {
    ++open_;
    job.on_end = [this, on_end = std::move(job.on_end)](RelayEnd how) {
      --open_;
      if (on_end) on_end(how);
    };
    {
      const std::scoped_lock lock(mutex_);
      jobs_.push_back(std::move(job));
      if (jobs_.size() > 1) return;  // the bell has been rung
    }
    bell_.ring();
  }

  bool check_alive() {
    const bool answered = answered_.exchange(false);
    bell_.ring();
    return answered;
  }

  [[nodiscard]] std::size_t open() const { return open_; }

 private:
  void take_jobs() {
    bell_.silence();
    answered_ = true;
    std::vector<RelayJob> jobs;
    {
      const std::scoped_lock lock(mutex_);
      jobs.swap(jobs_);
      if (ending_) loop_->stop();
    }
    for (RelayJob& job : jobs) relays_->add(std::move(job));
  }

  void run(std::size_t pipes) {
    relays_.emplace(*loop_, pipes);
    // Fails only if the descriptors of the loop were closed: a bug.
    [[maybe_unused]] const auto ignored = loop_->run();
    relays_.reset();
  }

  std::unique_ptr<EventLoop> loop_;
  Bell bell_;
  EventLoop::Watch bell_watch_;
  std::optional<RelayLoop> relays_;  // only used by the thread
  std::mutex mutex_;
  std::vector<RelayJob> jobs_;  // guarded by mutex_
  bool ending_ = false;         // guarded by mutex_
  std::atomic<std::size_t> open_{0};
  std::atomic<bool> answered_{true};
  std::thread thread_;
};

RelayPool::RelayPool(std::vector<std::unique_ptr<Worker>> workers) : workers_(std::move(workers)) {}
RelayPool::~RelayPool() = default;

Result<std::unique_ptr<RelayPool>> RelayPool::create(unsigned threads, std::size_t pipes) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (unsigned i = 0; i < std::max(threads, 1U); ++i) {
    NITRO_TRY(auto worker, Worker::create(pipes));
    workers.push_back(std::move(worker));
  }
  // The constructor is private: make_unique cannot reach it.
  return std::unique_ptr<RelayPool>(new RelayPool(std::move(workers)));
}

void RelayPool::add(RelayJob job) {
  const auto fewest = std::min_element(workers_.begin(), workers_.end(),
                                       [](const auto& a, const auto& b) { return a->open() < b->open(); });
  (*fewest)->add(std::move(job));
}

bool RelayPool::check_alive() {
  bool alive = true;
  for (const auto& worker : workers_) alive = worker->check_alive() && alive;
  return alive;
}

}  // namespace nitro::proxy
