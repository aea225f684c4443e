// Loop: what a thread waits with. Its sockets (uv/poll.h) are in an epoll set of ours, and beside
// them stands a uv_loop_t with everything else: timers, signals, look-ups of names, work posted
// from other threads, whatever plugins have. docs/decisions/0015 says why.
#pragma once

#include <sys/epoll.h>
#include <uv.h>

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "uv/handle.h"

namespace sluice::uv {

class Poll;

class Loop {
 public:
  // Throws std::system_error if the system refuses what a loop takes: descriptors, memory.
  Loop();
  // The loop must have been run dry with close(), or never run.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(). Call it on the thread that owns the loop.
  void run();
  // Ends run() after the present turn, and from a hook at its end at once. On the loop's thread
  // only; from others: post it.
  void stop() { stopped_ = true; }
  // One turn that does not wait.
  void turn() { turn(0); }

  // Runs `work` on the loop's thread, soon and in order. Any thread.
  void post(std::function<void()> work);

  // Calls `hook` once a turn, after all events and before the loop sleeps, until it is forgotten.
  // Hooks are called in the order in which they came. Not to be called from inside of a hook.
  using HookId = std::uint64_t;
  HookId at_turn_end(std::function<void()> hook);
  void forget(HookId id);

  // Closes the loop's own handles and lets every pending close callback run; waits a second for
  // others to close theirs, and for look-ups that were forgotten (uv/lookup.h). Fails if a handle
  // is left that nobody closed, a leak, or if a thread is still at such a look-up.
  Result<> close();
  // After close(): somebody is at something for this loop, such as a thread of libuv's at a
  // look-up. The destructor waits for it, however long it takes, and so does libuv at the end of
  // the process, but for _Exit().
  bool has_requests() const { return !closed_ && loop_.active_reqs.count > 0; }

  // Milliseconds of a monotonic clock, read once a turn.
  std::uint64_t now_ms() const { return uv_now(&loop_); }
  // Its handles are called back in turns in which one of them has something to tell, which are not
  // all of them.
  uv_loop_t* raw() { return &loop_; }

 private:
  friend class Poll;
  // Has tell_kernel() called before the loop sleeps; forget() takes that back, or has it called
  // now.
  void tell_later(Poll& poll) { changed_.push_back(&poll); }
  void forget(Poll& poll);
  void tell_kernel();
  // Has the poll told of `wanted` in place of `before`, both as epoll has them.
  void watch(Poll& poll, int fd, std::uint32_t before, std::uint32_t wanted);
  void turn(int timeout_ms);
  void prefetch_after(std::size_t event);
  Poll* poll_of(std::size_t event) const;
  void run_posted();
  void wait_for_others();

  // Of one turn: so few that what a turn has received and gathered is still in the caches at its
  // end, and needs no more chunks than a ChunkPool keeps (docs/decisions/0004).
  static constexpr std::size_t events_max = 64;

  uv_loop_t loop_;
  Fd epoll_;
  std::array<epoll_event, events_max> events_;  // of the present turn
  std::size_t event_count_ = 0;
  std::vector<Poll*> changed_;  // null: forgotten
  bool stopped_ = false;
  HandlePtr<uv_async_t> wake_;
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
