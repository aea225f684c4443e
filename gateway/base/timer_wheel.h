// TimerWheel: many coarse deadlines for the price of one timer.
//
// A deadline is an intrusive list entry: setting, moving and removing one costs a few pointers and
// never allocates. Deadlines fire up to `tick_ms` late, never early. Pure: the clock is handed in.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace sluice {

class TimerWheel {
 public:
  static constexpr std::uint64_t tick_ms = 100;
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  // Something with a deadline. Removes itself when destroyed.
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    virtual ~Entry() { unlink(); }

    // The deadline has passed; the entry is no longer in the wheel and may be set again.
    virtual void on_deadline() = 0;

    std::uint64_t due_ms() const { return due_ms_; }  // never: not in the wheel

   private:
    friend class TimerWheel;
    void unlink();

    Entry* previous_ = nullptr;
    Entry* next_ = nullptr;
    std::uint64_t due_ms_ = never;
  };

  explicit TimerWheel(std::uint64_t now_ms);
  ~TimerWheel();
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // The wheel's own clock. It follows the one handed to advance(), but a stall of the loop (a
  // stopped process, a long computation) moves it by no more than stall_max_ms: after a stall the
  // deadlines of all connections are extended, rather than all missed at once.
  static constexpr std::uint64_t stall_max_ms = 1'000;
  std::uint64_t now_ms() const { return now_ms_; }

  // Sets or moves the entry's deadline, by the wheel's clock. `never` removes it.
  void set(Entry& entry, std::uint64_t due_ms);

  // A deadline that is kept for later, in half the space: the tick at which it is over, counted
  // from the wheel's beginning. Good for 13 years.
  enum class Tick : std::uint32_t { never = 0xFFFFFFFF };
  Tick now() const { return tick_of(now_ms_ / tick_ms); }
  // The first tick at which `delay_ms` have gone by.
  Tick after(std::uint64_t delay_ms) const { return tick_of((now_ms_ + delay_ms) / tick_ms + 1); }
  void set(Entry& entry, Tick due);
  // The same, unless the entry has an earlier deadline.
  void hasten(Entry& entry, Tick due);

  // Fires what is due. Call it about every tick_ms with a monotonic clock.
  void advance(std::uint64_t clock_ms);

  // How many entries it has. Counts them.
  std::size_t size() const;

 private:
  static constexpr std::size_t slot_count = 512;

  // The head of a circular list.
  struct Slot final : Entry {
    Slot() { clear(); }
    ~Slot() override { clear(); }
    void clear();
    bool empty() const;
    void take_all(Slot& from);
    void push(Entry& entry);
    Entry* first();
    std::size_t count() const;
    void on_deadline() override {}
  };
  friend struct Slot;

  void fire(Slot& slot);
  Tick tick_of(std::uint64_t tick) const {
    return static_cast<Tick>(
        std::min(tick - first_tick_, static_cast<std::uint64_t>(Tick::never) - 1));
  }
  std::uint64_t due_ms(Tick due) const;

  std::array<Slot, slot_count> slots_;
  const std::uint64_t first_tick_;
  std::uint64_t now_ms_;
  std::uint64_t clock_ms_;  // at the last advance()
};

}  // namespace sluice
