#include "uv/poll.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <cassert>
#include <utility>

namespace sluice::uv {

Poll::Poll(Loop& loop, int fd, Owner& owner) : loop_(loop), owner_(owner), fd_(fd) {
  assert((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
}

void Poll::watch(bool readable, bool writable, bool urgent) {
  choose((readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U) | (urgent ? EPOLLPRI : 0U));
}

// What changes back within the turn costs nothing.
void Poll::choose(std::uint32_t events) {
  wanted_ = static_cast<std::uint8_t>(events);
  if (wanted_ != watched_ && !std::exchange(changed_, true)) loop_.tell_later(*this);
}

void Poll::tell_kernel() {
  changed_ = false;
  if (wanted_ != watched_) loop_.watch(*this, fd_, watched_, wanted_);
  watched_ = wanted_;
}

void Poll::stop() {
  wanted_ = 0;
  if (changed_) loop_.forget(*this);
  tell_kernel();
}

void Poll::on_events(std::uint32_t events) {
  // What was asked for when the kernel was may be unwanted since.
  events &= wanted_ | EPOLLERR | EPOLLHUP;
  if (events == 0 || wanted_ == 0) return;
  // The kernel tells of an error and of a hang-up whether asked to or not, and for ever.
  if ((events & EPOLLERR) != 0) {
    choose(0);
    return owner_.on_poll({.failed = true});
  }
  if (events == EPOLLHUP) events = wanted_;
  owner_.on_poll({.readable = (events & EPOLLIN) != 0,
                  .writable = (events & EPOLLOUT) != 0,
                  .urgent = (events & EPOLLPRI) != 0});
}

}  // namespace sluice::uv
