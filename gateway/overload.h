// Overload: what is done when the process comes near its memory budget, step by step.
//
//   85 %  refuse   no new WebSockets and requests: 503
//   90 %  shrink   what is kept for reuse is given back to the system
//   95 %  evict    the clients with the most bytes waiting are dropped, until 90 % are left
//
// A step that was taken holds until there are five percent less. The memory is looked at four times
// a second on the main thread; nothing is counted for a message.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "metrics/counters.h"
#include "uv/loop.h"
#include "uv/timer.h"

namespace sluice {

enum class OverloadLevel : std::uint8_t { none, refuse, shrink, evict };

// The level for this use of the budget, coming from `before`. Pure.
OverloadLevel next_level(OverloadLevel before, std::uint64_t used_bytes,
                         std::uint64_t budget_bytes);

class Overload {
 public:
  // What the steps do; called on the loop's thread.
  struct Steps {
    std::function<void()> shrink;
    std::function<void(std::uint64_t bytes)> evict;  // about as many bytes are to become free
  };

  // `level` is what other threads look at; everything outlives this.
  Overload(uv::Loop& loop, std::uint64_t budget_bytes, std::atomic<OverloadLevel>& level,
           metrics::MemoryCounters& counters, Steps steps);

  void start();

 private:
  void look();
  void report(OverloadLevel before, OverloadLevel now, std::uint64_t used_bytes) const;

  const std::uint64_t budget_bytes_;
  std::atomic<OverloadLevel>& level_;
  metrics::MemoryCounters& counters_;
  const Steps steps_;
  uv::Timer timer_;
};

}  // namespace sluice
