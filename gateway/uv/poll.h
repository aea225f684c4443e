// Poll: tells its owner when a socket can be read or written.
#pragma once

#include "base/result.h"
#include "uv/handle.h"
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

  // Chooses what to be told about. Costs a system call only when the choice changes. What breaks
  // the socket is told with any choice but none; `urgent` alone is the least there is to ask for.
  void watch(bool readable, bool writable, bool urgent = false);

 private:
  static void on_events(uv_poll_t* handle, int status, int events);

  HandlePtr<uv_poll_t> handle_;
  Owner& owner_;
  int watched_ = 0;
};

}  // namespace sluice::uv
