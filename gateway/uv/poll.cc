#include "uv/poll.h"

#include <cassert>

namespace sluice::uv {

Poll::Poll(Loop& loop, int fd, Owner& owner) : handle_(new uv_poll_t), owner_(owner) {
  [[maybe_unused]] const int status = uv_poll_init(loop.raw(), handle_.get(), fd);
  assert(status == 0);  // fails only for an fd that epoll cannot watch: not a socket
  handle_->data = this;
}

void Poll::watch(bool readable, bool writable, bool urgent) {
  const int wanted =
      (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0) | (urgent ? UV_PRIORITIZED : 0);
  if (wanted == watched_) return;
  watched_ = wanted;
  if (wanted == 0) {
    uv_poll_stop(handle_.get());
  } else {
    uv_poll_start(handle_.get(), wanted, &Poll::on_events);
  }
}

void Poll::on_events(uv_poll_t* handle, int status, int events) {
  auto* self = static_cast<Poll*>(handle->data);
  if (self == nullptr) return;
  if (status < 0) {
    // libuv has stopped the handle.
    self->watched_ = 0;
    self->owner_.on_poll({.failed = true});
    return;
  }
  self->owner_.on_poll({.readable = (events & UV_READABLE) != 0,
                        .writable = (events & UV_WRITABLE) != 0,
                        .urgent = (events & UV_PRIORITIZED) != 0});
}

}  // namespace sluice::uv
