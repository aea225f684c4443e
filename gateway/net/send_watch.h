// SendWatch: gives a TCP peer up whose kernel has been silent for too long about what was sent.
//
// What TCP_USER_TIMEOUT is for, but for one thing: Linux applies that to a closed window too,
// however faithfully the peer's kernel answers, and so ends connections to peers that merely do not
// read (docs/decisions/0006). Looks at the socket every now and then while something is
// outstanding; an idle one costs nothing. On the worker's thread.
#pragma once

#include <cstdint>
#include <functional>

#include "base/timer_wheel.h"

namespace sluice::net {

class SendWatch final : private TimerWheel::Entry {
 public:
  // The fd stays open as long as the watch lives; the wheel outlives it. `on_unanswered`: nothing
  // was acknowledged, nor any question answered, for the time given. It is not destroyed in it.
  SendWatch(TimerWheel& wheel, int fd, std::uint64_t timeout_ms,
            std::function<void()> on_unanswered);

  // The kernel has taken something.
  void on_written() {
    if (due_ms() == TimerWheel::never) begin();
  }

 private:
  void on_deadline() override;
  void begin();
  void look_later();

  TimerWheel& wheel_;
  const std::function<void()> on_unanswered_;
  const std::uint64_t timeout_ms_;
  const int fd_;
  std::uint64_t answered_ms_ = 0;  // when the peer was last known to answer
  std::uint64_t acknowledged_bytes_ = 0;
};

}  // namespace sluice::net
