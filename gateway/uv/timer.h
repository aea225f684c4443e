// Timer: calls a function later, on the loop's thread. For the few timers of a worker or of the
// gateway; connections share the worker's timer wheel (base/timer_wheel.h).
#pragma once

#include <cstdint>
#include <functional>

#include "uv/handle.h"
#include "uv/loop.h"

namespace sluice::uv {

class Timer {
 public:
  Timer(Loop& loop, std::function<void()> on_time);

  // Starts anew; repeat_ms 0: once.
  void start(std::uint64_t timeout_ms, std::uint64_t repeat_ms = 0);
  void stop();
  bool active() const;

 private:
  HandlePtr<uv_timer_t> handle_;
  std::function<void()> on_time_;
};

}  // namespace sluice::uv
