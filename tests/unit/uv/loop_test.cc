#include "uv/loop.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "uv/poll.h"
#include "uv/signal.h"
#include "uv/timer.h"

using namespace sluice;
using uv::Loop;

namespace {

struct Pair {
  Pair() {
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
  }
  ~Pair() {
    ::close(fds[0]);
    if (fds[1] >= 0) ::close(fds[1]);
  }
  int fds[2];
};

struct Watcher final : uv::Poll::Owner {
  void on_poll(uv::Poll::Events events) override {
    last = events;
    ++calls;
    if (then) then();
  }
  void on_poll_soon() override { ++soon; }
  uv::Poll::Events last;
  int calls = 0;
  int soon = 0;
  std::function<void()> then;
};

// Ends the test after a while that is long enough, so that a mistake does not hang it.
struct Deadline {
  explicit Deadline(Loop& loop) : timer(loop, [&loop] { loop.stop(); }) { timer.start(5'000); }
  uv::Timer timer;
};

}  // namespace

TEST_CASE("posted work runs on the loop's thread, in the order in which it was posted") {
  Loop loop;
  std::vector<int> order;
  std::thread::id thread;
  std::thread poster([&] {
    for (int i = 0; i < 1000; ++i) loop.post([&order, i] { order.push_back(i); });
    loop.post([&] {
      thread = std::this_thread::get_id();
      loop.stop();
    });
  });
  loop.run();
  poster.join();
  REQUIRE(order.size() == 1000);
  for (int i = 0; i < 1000; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
  CHECK(thread == std::this_thread::get_id());
  CHECK(loop.close().has_value());
}

TEST_CASE("a loop that does not get its descriptors is an exception, and leaves none behind") {
  const auto lowest_free = [] {
    const int fd = ::dup(STDERR_FILENO);
    ::close(fd);
    return fd;
  };
  { const Loop first; }  // libuv keeps a pipe of it
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int free = lowest_free();
  int refused = 0;
  for (int allowed = 0; allowed < 32; ++allowed) {
    const rlimit limit{static_cast<rlim_t>(free + allowed), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    std::error_code error;
    try {
      const Loop loop;
    } catch (const std::system_error& failure) {
      error = failure.code();
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(lowest_free() == free);
    if (!error) continue;
    CHECK(error == std::errc::too_many_files_open);
    ++refused;
  }
  CHECK(refused >= 5);
  CHECK(refused < 32);
}

TEST_CASE("several threads may post at the same time, each in its own order") {
  Loop loop;
  constexpr int thread_count = 4;
  std::vector<int> next(thread_count, 0);
  int done = 0;
  std::vector<std::thread> posters;
  for (int t = 0; t < thread_count; ++t) {
    posters.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        loop.post([&next, t, i] { CHECK(next[static_cast<std::size_t>(t)]++ == i); });
      }
      loop.post([&] {
        if (++done == thread_count) loop.stop();
      });
    });
  }
  loop.run();
  for (std::thread& poster : posters) poster.join();
  for (const int count : next) CHECK(count == 500);
  CHECK(loop.close().has_value());
}

TEST_CASE("work that posts work does not keep the loop from its other events") {
  Loop loop;
  int rounds = 0;
  bool timer_ran = false;
  std::function<void()> again = [&] {
    ++rounds;
    if (!timer_ran) loop.post(again);
  };
  uv::Timer timer(loop, [&] {
    timer_ran = true;
    loop.stop();
  });
  timer.start(20);
  loop.post(again);
  loop.run();
  CHECK(timer_ran);
  CHECK(rounds > 1);
}

TEST_CASE("the end of a turn comes after all of its events and before the loop sleeps") {
  Loop loop;
  std::string told;
  Pair pair;
  Watcher watcher;
  uv::Poll poll(loop, pair.fds[0], watcher);
  poll.watch(true, false);
  watcher.then = [&] {
    told += "read ";
    char buffer[8];
    (void)!::read(pair.fds[0], buffer, sizeof buffer);
    loop.post([&] {
      told += "posted ";
      loop.stop();
    });
  };
  loop.at_turn_end([&] { told += "| "; });
  (void)!::write(pair.fds[1], "x", 1);
  const Deadline deadline(loop);
  loop.run();
  // The first turn begins with the hook, since it comes before the first sleep.
  CHECK(told == "| read | posted ");
}

TEST_CASE("hooks of the turn's end are called in the order in which they came, until forgotten") {
  Loop loop;
  std::string told;
  (void)loop.at_turn_end([&] { told += "a"; });
  const auto second = loop.at_turn_end([&] { told += "b"; });
  const auto third = loop.at_turn_end([&] { told += "c"; });
  int turns = 0;
  std::function<void()> turn = [&] {
    told += " ";
    if (++turns == 1) loop.forget(second);
    if (turns == 2) {
      loop.forget(third);
      loop.forget(third);  // again, and one that there never was
      loop.forget(third + 1);
    }
    if (turns == 3) (void)loop.at_turn_end([&] { told += "d"; });
    if (turns == 4) return loop.stop();
    loop.post(turn);
  };
  loop.post(turn);
  const Deadline deadline(loop);
  loop.run();
  CHECK(told == "abc ac a ad ");
}

TEST_CASE("close() lets close callbacks run and tells of a handle that nobody closed") {
  {
    Loop loop;
    {
      uv::Timer timer(loop, [] {});
      timer.start(1'000'000);
    }
    CHECK(loop.close().has_value());
  }
  Loop loop;
  auto leaked = std::make_unique<uv::Timer>(loop, [] {});
  const auto closed = loop.close();
  REQUIRE_FALSE(closed.has_value());
  CHECK(closed.error().message.starts_with("uv_loop_close: "));
  leaked.reset();
  CHECK(loop.close().has_value());
}

TEST_CASE("work that was posted but never run is run by close()") {
  Loop loop;
  bool ran = false;
  loop.post([&] { ran = true; });
  CHECK(loop.close().has_value());
  CHECK(ran);
}

TEST_CASE("a timer fires once or again and again, and not after it was stopped or destroyed") {
  Loop loop;
  int once = 0;
  int often = 0;
  int never = 0;
  uv::Timer one(loop, [&] { ++once; });
  uv::Timer stopped(loop, [&] { ++never; });
  auto destroyed = std::make_unique<uv::Timer>(loop, [&] { ++never; });
  uv::Timer repeating(loop, [&] {
    stopped.stop();
    destroyed.reset();
    if (++often == 5) loop.stop();
  });
  one.start(1);
  repeating.start(2, 2);
  stopped.start(8);
  destroyed->start(8);
  CHECK(one.active());
  loop.run();
  CHECK(once == 1);
  CHECK(often == 5);
  CHECK(never == 0);
  CHECK_FALSE(one.active());
}

TEST_CASE("a timer's time begins when it is started, however long the turn has been") {
  Loop loop;
  std::uint64_t due_ns = 0;
  uv::Timer timer(loop, [&] {
    CHECK(uv::now_ns() >= due_ns);
    loop.stop();
  });
  loop.post([&] {
    // A turn that takes long. Nothing is waited for: the clock is what is tested.
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    due_ns = uv::now_ns() + 49'000'000;  // the clock of timers counts milliseconds
    timer.start(50);
    loop.post([] {});  // something else wakes the loop before
  });
  loop.run();
}

TEST_CASE("a Poll tells only what was asked for") {
  Loop loop;
  Pair pair;
  Watcher watcher;
  watcher.then = [&] { loop.stop(); };
  uv::Poll poll(loop, pair.fds[0], watcher);
  const Deadline deadline(loop);

  poll.watch(false, true);
  loop.run();
  CHECK(watcher.last.writable);
  CHECK_FALSE(watcher.last.readable);

  (void)!::write(pair.fds[1], "x", 1);
  poll.watch(true, false);
  loop.run();
  CHECK(watcher.last.readable);
  CHECK_FALSE(watcher.last.writable);
  CHECK(watcher.calls == 2);

  poll.watch(false, false);
  uv::Timer soon(loop, [&] { loop.stop(); });
  soon.start(20);
  loop.run();
  CHECK(watcher.calls == 2);
}

TEST_CASE("a Poll may be destroyed in its own callback") {
  Loop loop;
  Pair pair;
  Watcher watcher;
  auto poll = std::make_unique<uv::Poll>(loop, pair.fds[0], watcher);
  watcher.then = [&] {
    poll.reset();
    loop.stop();
  };
  poll->watch(true, true);
  const Deadline deadline(loop);
  loop.run();
  CHECK(watcher.calls == 1);
}

TEST_CASE("a Poll may be destroyed before the kernel has heard of what it wants") {
  Loop loop;
  Pair pair;
  Watcher before;
  Watcher after;
  (void)!::write(pair.fds[1], "x", 1);
  auto first = std::make_unique<uv::Poll>(loop, pair.fds[0], before);
  first->watch(true, false);
  first.reset();
  uv::Poll second(loop, pair.fds[0], after);
  second.watch(true, false);
  after.then = [&] {
    second.stop();  // so that the descriptor is free again within the turn
    uv::Poll third(loop, pair.fds[0], before);
    third.watch(true, false);
    loop.stop();
  };
  const Deadline deadline(loop);
  loop.run();
  CHECK(before.calls == 0);
  CHECK(after.calls == 1);
}

TEST_CASE("a Poll that changes its mind within a turn is told by the last choice") {
  Loop loop;
  Pair pair;
  Watcher watcher;
  uv::Poll poll(loop, pair.fds[0], watcher);
  (void)!::write(pair.fds[1], "x", 1);
  poll.watch(true, false);
  poll.watch(false, false);
  loop.turn();
  CHECK(watcher.calls == 0);
  poll.watch(true, false);
  loop.turn();
  CHECK(watcher.calls == 1);
  poll.watch(false, false);
  poll.watch(true, false);
  loop.turn();
  CHECK(watcher.calls == 2);
}

TEST_CASE("a signal is told on the loop's thread, each time") {
  Loop loop;
  int count = 0;
  uv::Signal signal(loop, SIGUSR1, [&] {
    if (++count == 2) return loop.stop();
    ::kill(::getpid(), SIGUSR1);
  });
  const Deadline deadline(loop);
  ::kill(::getpid(), SIGUSR1);
  loop.run();
  CHECK(count == 2);
}

TEST_CASE("a handle on libuv's loop that an event of ours starts is called back") {
  Loop loop;
  Pair pair;
  Pair other;
  Watcher watcher;
  uv::Poll poll(loop, pair.fds[0], watcher);
  poll.watch(true, false);
  auto* handle = new uv_poll_t;
  watcher.then = [&] {
    poll.watch(false, false);
    uv_poll_init(loop.raw(), handle, other.fds[0]);
    handle->data = &loop;
    uv_poll_start(handle, UV_READABLE, [](uv_poll_t* called, int, int) {
      uv_poll_stop(called);
      static_cast<Loop*>(called->data)->stop();
    });
  };
  (void)!::write(pair.fds[1], "x", 1);
  (void)!::write(other.fds[1], "x", 1);
  bool late = false;
  uv::Timer deadline(loop, [&] {
    late = true;
    loop.stop();
  });
  deadline.start(5'000);
  loop.run();
  CHECK_FALSE(late);
  uv_close(reinterpret_cast<uv_handle_t*>(handle),
           [](uv_handle_t* closed) { delete reinterpret_cast<uv_poll_t*>(closed); });
}

TEST_CASE("a Poll's owner is told that an event comes soon, but for a turn's first") {
  Loop loop;
  Pair pairs[3];
  Watcher watchers[3];
  std::unique_ptr<uv::Poll> polls[3];
  int before = 0;  // how many had been told so when on_poll() came
  for (std::size_t i = 0; i < 3; ++i) {
    polls[i] = std::make_unique<uv::Poll>(loop, pairs[i].fds[0], watchers[i]);
    polls[i]->watch(true, false);
    watchers[i].then = [&, i] { before += watchers[i].soon; };
    (void)!::write(pairs[i].fds[1], "x", 1);
  }
  loop.turn();
  CHECK(before == 2);
  CHECK(watchers[0].soon + watchers[1].soon + watchers[2].soon == 2);
}

TEST_CASE("a Poll that is destroyed in the event of another hears nothing any more") {
  struct Watched {
    Watched(Loop& loop, int fd) : poll(loop, fd, watcher) { poll.watch(true, false); }
    Watcher watcher;
    uv::Poll poll;
  };
  Loop loop;
  Pair pairs[4];
  std::unique_ptr<Watched> watched[4];
  int calls = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    watched[i] = std::make_unique<Watched>(loop, pairs[i].fds[0]);
    watched[i]->watcher.then = [&, i] {
      ++calls;
      for (std::size_t other = 0; other < 4; ++other) {
        if (other != i) watched[other].reset();
      }
    };
    (void)!::write(pairs[i].fds[1], "x", 1);
  }
  loop.turn();
  CHECK(calls == 1);
}
