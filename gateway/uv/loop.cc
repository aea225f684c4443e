#include "uv/loop.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <system_error>
#include <utility>

#include "base/prefetch.h"
#include "uv/poll.h"

namespace sluice::uv {
namespace {

[[noreturn]] void refuse(int error) {
  throw std::system_error(error, std::generic_category(), "cannot start an event loop");
}

// An epoll set. libuv aborts, without a word, if its first loop does not get all of its
// descriptors: seven must be free. The others are for what the start opens next, so that it is not
// told of a file that cannot be opened when it is the limit that must be raised.
int first_descriptor() {
  constexpr std::size_t descriptors_min = 16;
  std::deque<Fd> free;
  while (free.size() < descriptors_min) {
    if (free.emplace_back(::epoll_create1(EPOLL_CLOEXEC)).get() < 0) refuse(errno);
  }
  return free.front().release();
}

}  // namespace

Loop::Loop() : epoll_(first_descriptor()) {
  if (const int status = uv_loop_init(&loop_); status != 0) refuse(-status);
  // libuv's own set is one of the descriptors in ours.
  epoll_event event{.events = EPOLLIN, .data = {.ptr = this}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, uv_backend_fd(&loop_), &event) != 0) {
    const int error = errno;
    uv_loop_close(&loop_);
    refuse(error);
  }
  wake_.reset(new uv_async_t);
  uv_async_init(&loop_, wake_.get(), [](uv_async_t* handle) {
    if (handle->data != nullptr) static_cast<Loop*>(handle->data)->run_posted();
  });
  wake_->data = this;
  uv_run(&loop_, UV_RUN_NOWAIT);  // from now on libuv's set has it
}

Loop::~Loop() {
  if (wake_ != nullptr) (void)close();  // else that was tried
  // What a thread is at is written here in the end.
  while (has_requests()) uv_run(&loop_, UV_RUN_ONCE);
  if (!closed_) uv_loop_close(&loop_);
}

void Loop::run() {
  while (!stopped_) turn(uv_backend_timeout(&loop_));
  stopped_ = false;
}

void Loop::turn(int timeout_ms) {
  for (const auto& [id, hook] : turn_ends_) hook();
  if (stopped_) return;
  tell_kernel();
  // A hook may have started or closed something.
  if (timeout_ms != 0) timeout_ms = uv_backend_timeout(&loop_);
  const int count = ::epoll_wait(epoll_.get(), events_.data(), events_max, timeout_ms);
  uv_update_time(&loop_);
  event_count_ = count > 0 ? static_cast<std::size_t>(count) : 0;
  bool libuv_ready = false;
  for (std::size_t i = 0; i < event_count_; ++i) {
    prefetch_after(i);
    if (events_[i].data.ptr == this) libuv_ready = true;
    if (Poll* const poll = poll_of(i)) poll->on_events(events_[i].events);
  }
  event_count_ = 0;
  // Or a timer is due, a handle closes, one was started that libuv's set does not have yet.
  if (libuv_ready || uv_backend_timeout(&loop_) == 0) uv_run(&loop_, UV_RUN_NOWAIT);
}

// Nothing of a socket is in the caches if thousands had their turn since it was told of something.
// So each event fetches the poll of the next but one, with what stands before it in its owner; and
// the owner of the next, whose poll is there by now, knows what else is needed.
void Loop::prefetch_after(std::size_t event) {
  constexpr std::size_t before_bytes = 64;
  if (Poll* const poll = poll_of(event + 1)) poll->owner_.on_poll_soon();
  if (Poll* const poll = poll_of(event + 2)) {
    prefetch(reinterpret_cast<const std::byte*>(poll) - before_bytes, before_bytes + sizeof *poll);
  }
}

// Null if there is no such event, or it is libuv's, or nobody waits for it any more.
Poll* Loop::poll_of(std::size_t event) const {
  if (event >= event_count_ || events_[event].data.ptr == this) return nullptr;
  return static_cast<Poll*>(events_[event].data.ptr);
}

void Loop::tell_kernel() {
  for (Poll* const poll : changed_) {
    if (poll != nullptr) poll->tell_kernel();
  }
  changed_.clear();
}

void Loop::forget(Poll& poll) {
  // When thousands end in one turn, a search for each would be too much.
  constexpr std::size_t few = 64;
  if (changed_.size() > few) return tell_kernel();
  *std::find(changed_.rbegin(), changed_.rend(), &poll) = nullptr;
}

void Loop::watch(Poll& poll, int fd, std::uint32_t before, std::uint32_t wanted) {
  const int operation = before == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  epoll_event event{.events = wanted, .data = {.ptr = &poll}};
  // A socket that nobody watches would never end: without memory for it we go no further, and
  // neither would libuv.
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0 && wanted != 0) std::abort();
  if (wanted != 0) return;
  // It may be destroyed now, and be one of those that this turn has yet to tell.
  for (std::size_t i = 0; i < event_count_; ++i) {
    if (events_[i].data.ptr == &poll) events_[i].data.ptr = nullptr;
  }
}

void Loop::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  uv_async_send(wake_.get());
}

Loop::HookId Loop::at_turn_end(std::function<void()> hook) {
  turn_ends_.emplace_back(++last_hook_, std::move(hook));
  return last_hook_;
}

void Loop::forget(HookId id) {
  std::erase_if(turn_ends_, [&](const auto& hook) { return hook.first == id; });
}

void Loop::run_posted() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  for (const auto& work : posted) work();
}

// For what a thread of libuv is still at (a look-up of a name), which cannot be taken from it, and
// for handles that plugins close one after the other.
void Loop::wait_for_others() {
  constexpr std::uint64_t wait_ms = 1'000;
  bool over = false;
  HandlePtr<uv_timer_t> deadline(new uv_timer_t);
  uv_timer_init(&loop_, deadline.get());
  deadline->data = &over;
  uv_timer_start(
      deadline.get(), [](uv_timer_t* timer) { *static_cast<bool*>(timer->data) = true; }, wait_ms,
      0);
  uv_unref(reinterpret_cast<uv_handle_t*>(deadline.get()));
  while (uv_loop_alive(&loop_) != 0 && !over) uv_run(&loop_, UV_RUN_ONCE);
  deadline.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
}

Result<> Loop::close() {
  if (wake_ != nullptr) run_posted();
  wake_.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  wait_for_others();
  const int status = uv_loop_close(&loop_);
  closed_ = status == 0;
  if (!closed_) return fail(std::string("uv_loop_close: ") + uv_strerror(status));
  return {};
}

}  // namespace sluice::uv
