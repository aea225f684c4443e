// Listener: a listening socket that hands out what it accepts, on its loop's thread.
//
// Until start() the loop has nothing of it: it may be opened, and destroyed, on another thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "net/address.h"
#include "uv/poll.h"
#include "uv/timer.h"

namespace sluice::net {

class Listener final : private uv::Poll::Owner {
 public:
  class Owner {
   public:
    // The fd is non-blocking, close-on-exec and the owner's.
    virtual void on_accept(Listener& listener, int fd, const Endpoint& peer) = 0;
    // accept(2) has failed with `error`. Out of descriptors, `shed` waiting connections were
    // accepted and closed at once. The listener rests for a moment and goes on.
    virtual void on_accept_error(Listener& listener, int error, std::size_t shed) = 0;

   protected:
    ~Owner() = default;
  };

  struct Options {
    int backlog;              // how many connections may wait to be accepted
    bool reuse_port = false;  // SO_REUSEPORT: shared with others that set it
  };

  // Which file stands at a path.
  struct File {
    dev_t device = 0;
    ino_t number = 0;

    bool operator==(const File&) const = default;
  };

  // Binds and listens, but accepts nothing before start(). `index` is the owner's to use.
  static Result<std::unique_ptr<Listener>> open(uv::Loop& loop, const Address& address,
                                                const Options& options, std::size_t index,
                                                Owner& owner);
  ~Listener();

  void start();
  // From now on clients find the connection refused, and a unix socket's file is gone. Of those
  // that wait to be accepted TCP resets all, a unix socket none. Any thread but two at a time: also
  // while the loop's is held.
  void refuse();
  // What it is bound to; port 0 has become the port that the kernel chose.
  const Address& address() const { return address_; }
  std::size_t index() const { return index_; }

 private:
  Listener(uv::Loop& loop, int fd, const Address& address, std::size_t index, Owner& owner);

  void on_poll(uv::Poll::Events events) override;
  bool accept_one();
  std::size_t shed();
  bool shed_one();
  void rest();

  const Fd fd_;     // closed after poll_, which still names it to the loop
  int reserve_fd_;  // given up for a moment to shed connections when descriptors run out
  Address address_;
  const File file_;  // of a unix socket
  std::size_t index_;
  Owner& owner_;
  uv::Loop& loop_;
  bool refused_ = false;
  uv::Poll poll_;
  std::optional<uv::Timer> resume_;  // there since accept(2) has failed
};

}  // namespace sluice::net
