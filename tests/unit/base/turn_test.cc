// What is called at the end of a turn, and what is destroyed after it.
#include "base/turn.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <utility>

using namespace sluice;

namespace {

// Writes its name down when it is called, and does what the test wants.
struct Named final : Turn::Entry {
  Named(
      std::string& written, std::string called, std::function<void()> act = [] {})
      : calls(written), name(std::move(called)), then(std::move(act)) {}
  void on_turn_end() override {
    calls += name;
    then();
  }
  std::string& calls;
  const std::string name;
  std::function<void()> then;
};

struct Dying final : Turn::Mortal {
  explicit Dying(std::function<void()> last_words) : words(std::move(last_words)) {}
  ~Dying() override { words(); }
  const std::function<void()> words;
};

std::string round(Turn& turn, std::string& calls) {
  calls.clear();
  turn.run_woken();
  return calls;
}

}  // namespace

TEST_CASE("turn: who was woken is called once, in the order in which they were") {
  Turn turn;
  std::string calls;
  Named a(calls, "a");
  Named b(calls, "b");
  CHECK(turn.idle());
  turn.wake(b);
  turn.wake(a);
  turn.wake(b);  // a second time
  CHECK(turn.has_woken());
  CHECK(round(turn, calls) == "ba");
  CHECK_FALSE(turn.has_woken());
  CHECK(turn.idle());
  CHECK(round(turn, calls).empty());
  turn.wake(a);
  CHECK(round(turn, calls) == "a");  // and may be woken again
}

TEST_CASE("turn: whoever is woken during a round waits for the next one, itself too") {
  Turn turn;
  std::string calls;
  Named later(calls, "l");
  Named again(calls, "g");
  again.then = [&] {
    turn.wake(again);
    turn.wake(later);
  };
  turn.wake(again);
  CHECK(round(turn, calls) == "g");
  CHECK(turn.has_woken());
  again.then = [] {};
  CHECK(round(turn, calls) == "gl");
  CHECK(turn.idle());
}

TEST_CASE("turn: to wake somebody who is still to be called in this round changes nothing") {
  Turn turn;
  std::string calls;
  Named second(calls, "2");
  Named first(calls, "1", [&] { turn.wake(second); });
  turn.wake(first);
  turn.wake(second);
  CHECK(round(turn, calls) == "12");
  CHECK(turn.idle());
}

TEST_CASE("turn: an entry that is destroyed is forgotten") {
  Turn turn;
  std::string calls;
  Named stays(calls, "s");
  auto goes = std::make_unique<Named>(calls, "g");
  turn.wake(*goes);
  turn.wake(stays);

  SUBCASE("before the round") {
    goes.reset();
    CHECK(round(turn, calls) == "s");
  }
  SUBCASE("by one that is called before it in the same round") {
    CHECK(round(turn, calls) == "gs");
    stays.then = [&] { goes.reset(); };
    turn.wake(stays);
    turn.wake(*goes);
    CHECK(round(turn, calls) == "s");
  }
  SUBCASE("when it was woken for the next round, at the place of one that is being called") {
    // `goes` stands at place 0 of the next round while place 0 of this one is being called.
    goes->then = [&] { turn.wake(*goes); };
    stays.then = [&] { goes.reset(); };
    CHECK(round(turn, calls) == "gs");
    CHECK(round(turn, calls).empty());
  }
  SUBCASE("when it has been called already") {
    CHECK(round(turn, calls) == "gs");
    goes.reset();
    turn.wake(stays);
    CHECK(round(turn, calls) == "s");
  }
  CHECK(turn.idle());
}

TEST_CASE("turn: an entry at the same place of both lists forgets its own") {
  Turn turn;
  std::string calls;
  Named waits(calls, "w");
  auto called = std::make_unique<Named>(calls, "c");
  Named first(calls, "f");
  first.then = [&] {
    turn.wake(first);  // place 0 of the next round
    turn.wake(waits);  // place 1 of the next round
    called.reset();    // place 1 of this one
  };
  turn.wake(first);
  turn.wake(*called);
  CHECK(round(turn, calls) == "f");
  first.then = [] {};
  CHECK(round(turn, calls) == "fw");
}

TEST_CASE("turn: what is retired is destroyed by bury(), and not before") {
  Turn turn;
  int alive = 2;
  turn.retire(std::make_unique<Dying>([&] { --alive; }));
  turn.retire(std::make_unique<Dying>([&] { --alive; }));
  turn.retire(nullptr);
  turn.run_woken();
  CHECK(alive == 2);
  CHECK_FALSE(turn.has_woken());
  CHECK_FALSE(turn.idle());
  CHECK(turn.bury());
  CHECK(alive == 0);
  CHECK(turn.idle());
  CHECK_FALSE(turn.bury());
}

TEST_CASE("turn: what is retired during bury() waits for the next one") {
  Turn turn;
  bool second_dead = false;
  turn.retire(std::make_unique<Dying>(
      [&] { turn.retire(std::make_unique<Dying>([&] { second_dead = true; })); }));
  CHECK(turn.bury());
  CHECK_FALSE(second_dead);
  CHECK_FALSE(turn.idle());
  CHECK(turn.bury());
  CHECK(second_dead);
  CHECK(turn.idle());
}

TEST_CASE("turn: who is woken during bury() is called in the next round") {
  Turn turn;
  std::string calls;
  Named entry(calls, "e");
  turn.retire(std::make_unique<Dying>([&] { turn.wake(entry); }));
  CHECK(turn.bury());
  CHECK(turn.has_woken());
  CHECK(round(turn, calls) == "e");
}

TEST_CASE("turn: a mortal that is an entry too is not called after its death") {
  struct Both final : Turn::Mortal, Turn::Entry {
    explicit Both(int& counted) : calls(counted) {}
    void on_turn_end() override { ++calls; }
    int& calls;
  };
  Turn turn;
  int calls = 0;
  auto both = std::make_unique<Both>(calls);
  turn.wake(*both);
  turn.retire(std::move(both));
  CHECK(turn.bury());
  turn.run_woken();
  CHECK(calls == 0);
  CHECK(turn.idle());
}
