#include "uv/timer.h"

#include <utility>

namespace sluice::uv {

Timer::Timer(Loop& loop, std::function<void()> on_time)
    : handle_(new uv_timer_t), on_time_(std::move(on_time)) {
  uv_timer_init(loop.raw(), handle_.get());
  handle_->data = this;
}

void Timer::start(std::uint64_t timeout_ms, std::uint64_t repeat_ms) {
  // The loop's clock stands still during a turn. After a long one the time would be over at once.
  uv_update_time(handle_->loop);
  uv_timer_start(
      handle_.get(),
      [](uv_timer_t* handle) {
        auto* self = static_cast<Timer*>(handle->data);
        if (self != nullptr) self->on_time_();
      },
      timeout_ms, repeat_ms);
}

void Timer::stop() {
  uv_timer_stop(handle_.get());
}

bool Timer::active() const {
  return uv_is_active(reinterpret_cast<const uv_handle_t*>(handle_.get())) != 0;
}

}  // namespace sluice::uv
