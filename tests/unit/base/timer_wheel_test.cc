#include "base/timer_wheel.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

using namespace sluice;

namespace {

constexpr std::uint64_t tick = TimerWheel::tick_ms;

struct Deadline final : TimerWheel::Entry {
  explicit Deadline(std::function<void()> call = {}) : on_time(std::move(call)) {}
  void on_deadline() override {
    ++fired;
    if (on_time) on_time();
  }
  std::function<void()> on_time;
  int fired = 0;
};

// Turns the clock in steps that are no stall.
void turn(TimerWheel& wheel, std::uint64_t& clock, std::uint64_t ms) {
  for (const std::uint64_t end = clock + ms; clock < end;) {
    clock = std::min(clock + tick, end);
    wheel.advance(clock);
  }
}

}  // namespace

TEST_CASE("a deadline fires once, never early and at most a tick late") {
  for (const int delay_ms : {0, 1, 99, 100, 101, 250, 1000, 51'100, 51'200, 51'300, 200'000}) {
    CAPTURE(delay_ms);
    std::uint64_t clock = 12'345;
    TimerWheel wheel(clock);
    std::uint64_t fired_ms = 0;
    Deadline deadline([&] { fired_ms = wheel.now_ms(); });
    const std::uint64_t due = clock + static_cast<std::uint64_t>(delay_ms);
    wheel.set(deadline, due);
    CHECK(deadline.due_ms() == due);
    while (deadline.fired == 0 && clock < due + 1000) {
      clock += 1;
      wheel.advance(clock);
    }
    CHECK(deadline.fired == 1);
    CHECK(fired_ms >= due);
    CHECK(fired_ms <= std::max(due, std::uint64_t{12'346}) + tick);
    CHECK(deadline.due_ms() == TimerWheel::never);
    turn(wheel, clock, 60'000);
    CHECK(deadline.fired == 1);
  }
}

TEST_CASE("a deadline that is kept in ticks fires when it is over, as one in milliseconds does") {
  for (const std::uint64_t delay_ms : {0, 1, 54, 55, 56, 100, 1000, 51'200, 200'000}) {
    CAPTURE(delay_ms);
    std::uint64_t clock = 12'345;
    TimerWheel wheel(clock);
    std::uint64_t fired_ms = 0;
    Deadline deadline([&] { fired_ms = wheel.now_ms(); });
    const TimerWheel::Tick due = wheel.after(delay_ms);
    wheel.set(deadline, due);
    CHECK(wheel.now() < due);
    while (deadline.fired == 0 && clock < 12'345 + delay_ms + 1000) wheel.advance(++clock);
    CHECK(wheel.now() == due);
    CHECK(fired_ms > 12'345 + delay_ms);
    CHECK(fired_ms <= 12'345 + delay_ms + tick);
  }
}

TEST_CASE("a deadline is hastened, and never put off") {
  std::uint64_t clock = 0;
  TimerWheel wheel(clock);
  Deadline deadline;
  wheel.hasten(deadline, wheel.after(1'000));
  wheel.hasten(deadline, wheel.after(5'000));
  wheel.hasten(deadline, TimerWheel::Tick::never);
  turn(wheel, clock, 1'100);
  CHECK(deadline.fired == 1);
  wheel.hasten(deadline, wheel.after(5'000));
  wheel.hasten(deadline, wheel.after(200));
  turn(wheel, clock, 400);
  CHECK(deadline.fired == 2);
  CHECK(wheel.after(~std::uint64_t{0} / 2) < TimerWheel::Tick::never);
}

TEST_CASE("what is due after several rounds of the wheel waits for its own") {
  std::uint64_t clock = 0;
  TimerWheel wheel(clock);
  Deadline deadline;
  const std::uint64_t hour = 3'600'000;
  wheel.set(deadline, hour);
  turn(wheel, clock, hour - 1);
  CHECK(deadline.fired == 0);
  turn(wheel, clock, tick + 1);
  CHECK(deadline.fired == 1);
}

TEST_CASE("a deadline that is moved fires at its new time only") {
  std::uint64_t clock = 0;
  TimerWheel wheel(clock);
  Deadline deadline;
  wheel.set(deadline, 1'000);
  wheel.set(deadline, 5'000);
  CHECK(wheel.size() == 1);
  turn(wheel, clock, 4'900);
  CHECK(deadline.fired == 0);
  wheel.set(deadline, 2'000);  // overdue: at the next tick
  turn(wheel, clock, 2 * tick);
  CHECK(deadline.fired == 1);
}

TEST_CASE("never, and the end of the entry, take a deadline out") {
  std::uint64_t clock = 0;
  TimerWheel wheel(clock);
  Deadline stays;
  {
    Deadline gone;
    wheel.set(gone, 500);
    wheel.set(stays, 500);
    CHECK(wheel.size() == 2);
  }
  CHECK(wheel.size() == 1);
  wheel.set(stays, TimerWheel::never);
  CHECK(wheel.size() == 0);
  CHECK(stays.due_ms() == TimerWheel::never);
  turn(wheel, clock, 1'000);
  CHECK(stays.fired == 0);
}

TEST_CASE("a deadline may set itself, move another and destroy a third that is due as well") {
  std::uint64_t clock = 0;
  TimerWheel wheel(clock);
  Deadline again;
  Deadline moved;
  auto destroyed = std::make_unique<Deadline>();
  Deadline first([&] {
    wheel.set(again, 1'000);
    wheel.set(moved, 2'000);
    destroyed.reset();
  });
  again.on_time = [&] {
    if (again.fired < 3) wheel.set(again, wheel.now_ms() + 300);
  };
  wheel.set(first, 500);
  wheel.set(moved, 510);
  wheel.set(*destroyed, 520);
  turn(wheel, clock, 600);
  CHECK(first.fired == 1);
  CHECK(moved.fired == 0);
  turn(wheel, clock, 5'000);
  CHECK(again.fired == 3);
  CHECK(moved.fired == 1);
  CHECK(wheel.size() == 0);
}

TEST_CASE("a deadline that sets itself overdue fires at the next tick, not for ever in this one") {
  std::uint64_t clock = 0;
  TimerWheel wheel(clock);
  Deadline deadline;
  deadline.on_time = [&] { wheel.set(deadline, 0); };
  wheel.set(deadline, 0);
  turn(wheel, clock, 10 * tick);
  CHECK(deadline.fired >= 9);
  CHECK(deadline.fired <= 10);
  wheel.set(deadline, TimerWheel::never);
}

TEST_CASE("a stall moves the wheel's clock by no more than stall_max_ms") {
  std::uint64_t clock = 0;
  TimerWheel wheel(clock);
  Deadline soon;
  Deadline later;
  wheel.set(soon, 900);
  wheel.set(later, 15'000);
  clock = 600'000;
  wheel.advance(clock);
  CHECK(wheel.now_ms() == TimerWheel::stall_max_ms);
  CHECK(soon.fired == 1);
  CHECK(later.fired == 0);
  // It goes on from there, and the deadline has become longer by the stall.
  turn(wheel, clock, 13'900);
  CHECK(later.fired == 0);
  turn(wheel, clock, 300);
  CHECK(later.fired == 1);
}

TEST_CASE("any sequence of sets, removals and steps gives what a sorted list would give") {
  std::mt19937 random(815);
  const auto below = [&](std::uint64_t n) {
    return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random);
  };
  for (int round = 0; round < 20; ++round) {
    std::uint64_t clock = below(1'000'000);
    TimerWheel wheel(clock);
    std::vector<std::unique_ptr<Deadline>> deadlines;
    std::map<Deadline*, std::uint64_t> model;  // due, of those that are set
    for (int i = 0; i < 30; ++i) {
      auto made = std::make_unique<Deadline>();
      Deadline* self = made.get();
      made->on_time = [&, self] {
        REQUIRE(model.count(self) == 1);
        REQUIRE(wheel.now_ms() >= model[self]);
        model.erase(self);
        if (below(4) == 0) {
          model[self] = wheel.now_ms() + below(120'000);
          wheel.set(*self, model[self]);
        }
      };
      deadlines.push_back(std::move(made));
    }
    for (int step = 0; step < 3'000; ++step) {
      Deadline& one = *deadlines[below(deadlines.size())];
      switch (below(8)) {
        case 0:
          model[&one] = wheel.now_ms() + below(120'000);
          wheel.set(one, model[&one]);
          break;
        case 1:
          model.erase(&one);
          wheel.set(one, TimerWheel::never);
          break;
        default:
          clock += below(TimerWheel::stall_max_ms);
          wheel.advance(clock);
      }
      REQUIRE(wheel.size() == model.size());
      for (const auto& [entry, due] : model) {
        REQUIRE(entry->due_ms() == due);
        REQUIRE(wheel.now_ms() <= due + 2 * tick);  // what is overdue has fired
      }
    }
    for (const auto& deadline : deadlines) wheel.set(*deadline, TimerWheel::never);
  }
}
