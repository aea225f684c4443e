// Poll: tells its owner when a socket can be read or written.
#pragma once

#include <cstdint>

#include "uv/loop.h"

namespace sluice::uv {

class Poll {
 public:
  struct Events {
    bool readable = false;
    bool writable = false;
    bool urgent = false;  // urgent data has come, or both directions have ended
    bool failed = false;  // error or hang-up: watching has ended, read to learn what happened
  };

  class Owner {
   public:
    virtual void on_poll(Events events) = 0;
    // May come earlier in a turn in which on_poll() comes: the time to prefetch what that needs.
    virtual void on_poll_soon() {}

   protected:
    ~Owner() = default;
  };

  // `fd` is non-blocking. It must stay open until stop() or as long as the Poll lives; the owner
  // too.
  Poll(Loop& loop, int fd, Owner& owner);
  ~Poll() { stop(); }
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;

  int fd() const { return fd_; }

  // Chooses what to be told about. The kernel hears of it when the loop is about to sleep, and only
  // if it is another choice than the last time. What breaks the socket is told with any choice but
  // none; `urgent` alone is the least there is to ask for.
  void watch(bool readable, bool writable, bool urgent = false);
  // Nothing any more, at once: for an fd that is about to be closed.
  void stop();

 private:
  friend class Loop;
  void on_events(std::uint32_t events);
  void choose(std::uint32_t events);
  void tell_kernel();

  Loop& loop_;
  Owner& owner_;
  const int fd_;
  // EPOLLIN and the like, of which those in use fit into a byte.
  std::uint8_t wanted_ = 0;
  std::uint8_t watched_ = 0;  // as the kernel has it
  bool changed_ = false;  // it may be another choice than the kernel's: the loop has us in a list
};

}  // namespace sluice::uv
