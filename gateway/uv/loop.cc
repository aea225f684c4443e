#include "uv/loop.h"

#include <utility>

namespace sluice::uv {

Loop::Loop() {
  uv_loop_init(&loop_);
  wake_.reset(new uv_async_t);
  uv_async_init(&loop_, wake_.get(), [](uv_async_t* handle) {
    if (handle->data != nullptr) static_cast<Loop*>(handle->data)->run_posted();
  });
  wake_->data = this;

  // "Prepare" handles run right before the loop waits for events.
  prepare_.reset(new uv_prepare_t);
  uv_prepare_init(&loop_, prepare_.get());
  prepare_->data = this;
  uv_prepare_start(prepare_.get(), [](uv_prepare_t* handle) {
    auto* self = static_cast<Loop*>(handle->data);
    if (self != nullptr && self->turn_end_) self->turn_end_();
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(prepare_.get()));
}

Loop::~Loop() {
  if (!closed_) (void)close();
}

void Loop::run() {
  uv_run(&loop_, UV_RUN_DEFAULT);
}

void Loop::stop() {
  uv_stop(&loop_);
}

void Loop::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  uv_async_send(wake_.get());
}

void Loop::run_posted() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  for (const auto& work : posted) work();
}

Result<> Loop::close() {
  if (wake_ != nullptr) run_posted();
  wake_.reset();
  prepare_.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  // A second turn for handles that close callbacks of the first have closed.
  uv_run(&loop_, UV_RUN_NOWAIT);
  const int status = uv_loop_close(&loop_);
  closed_ = status == 0;
  if (!closed_) return fail(std::string("uv_loop_close: ") + uv_strerror(status));
  return {};
}

}  // namespace sluice::uv
