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
    if (self == nullptr) return;
    for (const auto& [id, hook] : self->turn_ends_) hook();
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

Result<> Loop::close() {
  if (wake_ != nullptr) run_posted();
  wake_.reset();
  prepare_.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  // A second turn for handles that close callbacks of the first have closed.
  uv_run(&loop_, UV_RUN_NOWAIT);
  // What a thread of libuv is still at (a look-up of a name) cannot be taken from it.
  while (loop_.active_reqs.count > 0) uv_run(&loop_, UV_RUN_ONCE);
  const int status = uv_loop_close(&loop_);
  closed_ = status == 0;
  if (!closed_) return fail(std::string("uv_loop_close: ") + uv_strerror(status));
  return {};
}

}  // namespace sluice::uv
