#include "uv/signal.h"

#include <utility>

namespace sluice::uv {

Signal::Signal(Loop& loop, int number, std::function<void()> on_signal)
    : handle_(new uv_signal_t), on_signal_(std::move(on_signal)) {
  uv_signal_init(loop.raw(), handle_.get());
  handle_->data = this;
  uv_signal_start(
      handle_.get(),
      [](uv_signal_t* handle, int) {
        auto* self = static_cast<Signal*>(handle->data);
        if (self != nullptr) self->on_signal_();
      },
      number);
}

}  // namespace sluice::uv
