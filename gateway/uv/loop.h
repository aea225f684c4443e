// Loop: one uv_loop_t and the two things that every thread of ours needs from it: work posted from
// other threads, and a hook at the end of each turn.
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "uv/handle.h"

namespace sluice::uv {

class Loop {
 public:
  Loop();
  // The loop must have been run dry with close(), or never run.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(). Call it on the thread that owns the loop.
  void run();
  // Ends run() after the present turn. On the loop's thread only; from others: post it.
  void stop();

  // Runs `work` on the loop's thread, soon and in order. Any thread.
  void post(std::function<void()> work);

  // Calls `hook` once a turn, after all events and before the loop sleeps, until it is forgotten.
  // Hooks are called in the order in which they came. Not to be called from inside of a hook.
  using HookId = std::uint64_t;
  HookId at_turn_end(std::function<void()> hook);
  void forget(HookId id);

  // Closes the loop's own handles and lets every pending close callback run; waits for look-ups
  // that were forgotten (uv/lookup.h). Fails if a handle is left that nobody closed: a leak.
  Result<> close();

  // Milliseconds of a monotonic clock, read once a turn.
  std::uint64_t now_ms() const { return uv_now(&loop_); }
  uv_loop_t* raw() { return &loop_; }

 private:
  void run_posted();

  uv_loop_t loop_;
  HandlePtr<uv_async_t> wake_;
  HandlePtr<uv_prepare_t> prepare_;
  std::vector<std::pair<HookId, std::function<void()>>> turn_ends_;
  HookId last_hook_ = 0;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // guarded by mutex_
  bool closed_ = false;
};

// Nanoseconds of a monotonic clock, read now.
inline std::uint64_t now_ns() {
  return uv_hrtime();
}

}  // namespace sluice::uv
