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

   protected:
    ~Owner() = default;
  };

  // Makes `fd` non-blocking. The fd must stay open as long as the Poll lives; the owner too.
  Poll(Loop& loop, int fd, Owner& owner);
  ~Poll() { watch(false, false); }
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;

  int fd() const { return fd_; }

  // Chooses what to be told about. Costs a system call only when the choice changes. What breaks
  // the socket is told with any choice but none; `urgent` alone is the least there is to ask for.
  void watch(bool readable, bool writable, bool urgent = false);

 private:
  friend class Loop;
  void on_events(std::uint32_t events);
  void choose(std::uint32_t events);

  Loop& loop_;
  Owner& owner_;
  const int fd_;
  std::uint32_t watched_ = 0;  // EPOLLIN and the like
};

}  // namespace sluice::uv
