#include "uv/poll.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <cassert>

namespace sluice::uv {

Poll::Poll(Loop& loop, int fd, Owner& owner) : loop_(loop), owner_(owner), fd_(fd) {
  int on = 1;
  [[maybe_unused]] const int status = ::ioctl(fd, FIONBIO, &on);
  assert(status == 0);
}

void Poll::watch(bool readable, bool writable, bool urgent) {
  choose((readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U) | (urgent ? EPOLLPRI : 0U));
}

void Poll::choose(std::uint32_t events) {
  if (events == watched_) return;
  loop_.watch(*this, fd_, watched_, events);
  watched_ = events;
}

void Poll::on_events(std::uint32_t events) {
  // What was asked for when the kernel was may be unwanted since.
  events &= watched_ | EPOLLERR | EPOLLHUP;
  if (events == 0 || watched_ == 0) return;
  // The kernel tells of an error and of a hang-up whether asked to or not, and for ever.
  if ((events & EPOLLERR) != 0) {
    choose(0);
    return owner_.on_poll({.failed = true});
  }
  if (events == EPOLLHUP) events = watched_;
  owner_.on_poll({.readable = (events & EPOLLIN) != 0,
                  .writable = (events & EPOLLOUT) != 0,
                  .urgent = (events & EPOLLPRI) != 0});
}

}  // namespace sluice::uv
