// Alarm: a deadline that calls a member function of its owner.
#pragma once

#include "base/timer_wheel.h"

namespace sluice::bridges {

template <typename Owner>
class Alarm final : public TimerWheel::Entry {
 public:
  // Both outlive it.
  Alarm(TimerWheel& wheel, Owner& owner, void (Owner::*on_time)())
      : wheel_(wheel), owner_(owner), on_time_(on_time) {}

  // Instead of the time that was set before.
  void set(std::uint64_t delay_ms) { wheel_.set(*this, wheel_.now_ms() + delay_ms); }
  void clear() { wheel_.set(*this, TimerWheel::never); }
  bool is_set() const { return due_ms() != TimerWheel::never; }

  void on_deadline() override { (owner_.*on_time_)(); }

 private:
  TimerWheel& wheel_;
  Owner& owner_;
  void (Owner::*on_time_)();
};

}  // namespace sluice::bridges
