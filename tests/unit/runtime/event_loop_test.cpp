// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "descriptor_limit.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro {
namespace {

using std::chrono::milliseconds;

std::unique_ptr<EventLoop> make_loop() {
  return EventLoop::create().value();
}

TEST(EventLoop, CallsBackWhenADescriptorIsReady) {
  const auto loop = make_loop();
  auto pair = make_socket_pair();
  ASSERT_OK(pair);
  int calls = 0;
  auto watch = loop->watch_fd(pair->first.get(), EPOLLIN, [&](std::uint32_t events) {
    EXPECT_TRUE(events & EPOLLIN);
    ++calls;
    loop->stop();
  });
  ASSERT_OK(watch);
  ASSERT_OK(loop->run_once(milliseconds(0)));
  EXPECT_EQ(calls, 0);
  ASSERT_OK(write_all(pair->second.get(), std::as_bytes(std::span("x", 1))));
  ASSERT_OK(loop->run());
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, ACallbackMayCancelItsOwnWatchAndOthers) {
  const auto loop = make_loop();
  auto a = make_socket_pair();
  auto b = make_socket_pair();
  ASSERT_OK(a);
  ASSERT_OK(b);
  int calls = 0;
  EventLoop::Watch watch_a;
  EventLoop::Watch watch_b;
  const auto callback = [&](std::uint32_t) {
    ++calls;
    watch_a.cancel();
    watch_b.cancel();
  };
  watch_a = loop->watch_fd(a->first.get(), EPOLLIN, callback).value();
  watch_b = loop->watch_fd(b->first.get(), EPOLLIN, callback).value();
  ASSERT_OK(write_all(a->second.get(), std::as_bytes(std::span("x", 1))));
  ASSERT_OK(write_all(b->second.get(), std::as_bytes(std::span("x", 1))));
  ASSERT_OK(loop->run_once(milliseconds(1000)));
  ASSERT_OK(loop->run_once(milliseconds(0)));
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, PausesAndResumesAWatch) {
  const auto loop = make_loop();
  auto pair = make_socket_pair();
  ASSERT_OK(pair);
  int calls = 0;
  auto watch = loop->watch_fd(pair->first.get(), EPOLLIN, [&](std::uint32_t) { ++calls; });
  ASSERT_OK(watch);
  ASSERT_OK(write_all(pair->second.get(), std::as_bytes(std::span("x", 1))));
  ASSERT_OK(loop->update(*watch, 0));
  ASSERT_OK(loop->run_once(milliseconds(0)));
  EXPECT_EQ(calls, 0);
  ASSERT_OK(loop->update(*watch, EPOLLIN));
  ASSERT_OK(loop->run_once(milliseconds(1000)));
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, DeliversTimersOnceOrRepeatedly) {
  const auto loop = make_loop();
  int once = 0;
  int repeated = 0;
  auto first = loop->watch_timer(milliseconds(1), [&] { ++once; });
  auto second = loop->watch_timer(
      milliseconds(2),
      [&] {
        if (++repeated == 3) loop->stop();
      },
      true);
  ASSERT_OK(loop->run());
  EXPECT_EQ(once, 1);
  EXPECT_EQ(repeated, 3);
}

TEST(EventLoop, SetsTimersAtTheLimitOfDescriptors) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  const auto loop = make_loop();
  const testing::DescriptorLimit limit;
  bool expired = false;
  const auto timer = loop->watch_timer(milliseconds(1), [&] { expired = true; });
  while (!expired) ASSERT_OK(loop->run_once(milliseconds(-1)));
}

TEST(EventLoop, DeliversTimersInTheOrderOfTheirTimes) {
  const auto loop = make_loop();
  std::string order;
  const auto late = loop->watch_timer(milliseconds(20), [&] { order += 'c'; });
  const auto early = loop->watch_timer(milliseconds(5), [&] { order += 'a'; });
  const auto middle = loop->watch_timer(milliseconds(10), [&] { order += 'b'; });
  while (order.size() < 3) ASSERT_OK(loop->run_once(milliseconds(-1)));
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, ForgetsACancelledTimerAndKeepsTheOthers) {
  const auto loop = make_loop();
  bool cancelled_ran = false;
  bool other_ran = false;
  EventLoop::Watch cancelled = loop->watch_timer(milliseconds(1), [&] { cancelled_ran = true; });
  const auto other = loop->watch_timer(milliseconds(10), [&] { other_ran = true; });
  cancelled.cancel();
  while (!other_ran) ASSERT_OK(loop->run_once(milliseconds(-1)));
  EXPECT_FALSE(cancelled_ran);
}

TEST(EventLoop, ATimerMayCancelItselfAndOthersAndSetNewOnes) {
  const auto loop = make_loop();
  int calls = 0;
  EventLoop::Watch repeated;
  EventLoop::Watch other;
  EventLoop::Watch next;
  repeated = loop->watch_timer(
      milliseconds(1),
      [&] {
        ++calls;
        repeated.cancel();
        other.cancel();
        next = loop->watch_timer(milliseconds(1), [&] { loop->stop(); });
      },
      true);
  other = loop->watch_timer(milliseconds(1), [&] { ADD_FAILURE() << "a timer that was cancelled"; });
  ASSERT_OK(loop->run());
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, TimersThatOutliveTheLoopAreHarmless) {
  EventLoop::Watch timer;
  {
    const auto loop = make_loop();
    timer = loop->watch_timer(milliseconds(1), [] {});
  }
  timer.cancel();
}

TEST(EventLoop, DeliversBlockedSignals) {
  const auto loop = make_loop();
  ASSERT_OK(block_signals({SIGUSR1}));
  int got = 0;
  auto watch = loop->watch_signals({SIGUSR1}, [&](int signal) {
    got = signal;
    loop->stop();
  });
  ASSERT_OK(watch);
  ::kill(::getpid(), SIGUSR1);
  ASSERT_OK(loop->run());
  EXPECT_EQ(got, SIGUSR1);
}

TEST(EventLoop, RunsDeferredWorkInTheNextRound) {
  const auto loop = make_loop();
  int order = 0;
  loop->defer([&] {
    EXPECT_EQ(order++, 0);
    loop->defer([&] {
      EXPECT_EQ(order++, 1);
      loop->stop();
    });
  });
  ASSERT_OK(loop->run());
  EXPECT_EQ(order, 2);
}

TEST(EventLoop, LetsEventsComeBeforeWhatWasDeferredInThisRound) {
  const auto loop = make_loop();
  const Fd first(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  const Fd second(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::string order;
  auto watch_first = loop->watch_fd(first.get(), EPOLLIN | EPOLLET, [&](std::uint32_t) {
    order += 'a';
    loop->defer([&] {
      order += 'c';
      loop->stop();
    });
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(second.get(), &one, sizeof one), 8);
  });
  ASSERT_OK(watch_first);
  auto watch_second = loop->watch_fd(second.get(), EPOLLIN | EPOLLET, [&](std::uint32_t) { order += 'b'; });
  ASSERT_OK(watch_second);
  ASSERT_OK(loop->run());
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, WatchesThatOutliveTheLoopAreHarmless) {
  auto pair = make_socket_pair();
  ASSERT_OK(pair);
  EventLoop::Watch watch;
  {
    const auto loop = make_loop();
    watch = loop->watch_fd(pair->first.get(), EPOLLIN, [](std::uint32_t) {}).value();
  }
  watch.cancel();
}

}  // namespace
}  // namespace nitro
