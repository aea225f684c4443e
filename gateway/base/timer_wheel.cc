#include "base/timer_wheel.h"

#include <cassert>

namespace sluice {

void TimerWheel::Entry::unlink() {
  if (next_ == nullptr) return;
  previous_->next_ = next_;
  next_->previous_ = previous_;
  previous_ = next_ = nullptr;
  due_ms_ = never;
}

void TimerWheel::Slot::clear() {
  previous_ = next_ = this;
}

bool TimerWheel::Slot::empty() const {
  return next_ == this;
}

TimerWheel::Entry* TimerWheel::Slot::first() {
  return next_;
}

std::size_t TimerWheel::Slot::count() const {
  std::size_t count = 0;
  for (const Entry* entry = next_; entry != this; entry = entry->next_) ++count;
  return count;
}

void TimerWheel::Slot::push(Entry& entry) {
  entry.previous_ = previous_;
  entry.next_ = this;
  previous_->next_ = &entry;
  previous_ = &entry;
}

void TimerWheel::Slot::take_all(Slot& from) {
  if (from.empty()) return;
  next_ = from.next_;
  previous_ = from.previous_;
  next_->previous_ = this;
  previous_->next_ = this;
  from.clear();
}

TimerWheel::TimerWheel(std::uint64_t now_ms)
    : first_tick_(now_ms / tick_ms), now_ms_(now_ms), clock_ms_(now_ms) {}

TimerWheel::~TimerWheel() {
  assert(size() == 0);
}

void TimerWheel::set(Entry& entry, std::uint64_t due_ms) {
  entry.unlink();
  if (due_ms == never) return;
  // What is overdue fires at the next tick.
  const std::uint64_t tick = std::max(due_ms, now_ms_ + 1) / tick_ms + 1;
  entry.due_ms_ = due_ms;
  slots_[tick % slot_count].push(entry);
}

// The last millisecond that makes an entry fire at that tick.
std::uint64_t TimerWheel::due_ms(Tick due) const {
  if (due == Tick::never) return never;
  return (first_tick_ + static_cast<std::uint64_t>(due)) * tick_ms - 1;
}

void TimerWheel::set(Entry& entry, Tick due) {
  set(entry, due_ms(due));
}

void TimerWheel::hasten(Entry& entry, Tick due) {
  if (due_ms(due) < entry.due_ms_) set(entry, due);
}

std::size_t TimerWheel::size() const {
  std::size_t size = 0;
  for (const Slot& slot : slots_) size += slot.count();
  return size;
}

void TimerWheel::advance(std::uint64_t clock_ms) {
  const std::uint64_t elapsed = std::min(clock_ms - clock_ms_, stall_max_ms);
  clock_ms_ = clock_ms;
  const std::uint64_t from = now_ms_ / tick_ms;
  now_ms_ += elapsed;
  const std::uint64_t to = now_ms_ / tick_ms;
  for (std::uint64_t tick = from + 1; tick <= to; ++tick) fire(slots_[tick % slot_count]);
}

void TimerWheel::fire(Slot& slot) {
  // A deadline may set, move or remove any other: the list is taken aside first, and only its
  // first entry is ever looked at.
  Slot due;
  due.take_all(slot);
  while (!due.empty()) {
    Entry* entry = due.first();
    const std::uint64_t due_ms = entry->due_ms_;
    entry->unlink();
    if (due_ms > now_ms_) {
      set(*entry, due_ms);  // a later round of the wheel
    } else {
      entry->on_deadline();
    }
  }
}

}  // namespace sluice
