// Signal: calls a function, on the loop's thread, each time the process receives a signal.
#pragma once

#include <functional>

#include "uv/handle.h"
#include "uv/loop.h"

namespace sluice::uv {

class Signal {
 public:
  Signal(Loop& loop, int number, std::function<void()> on_signal);

 private:
  HandlePtr<uv_signal_t> handle_;
  std::function<void()> on_signal_;
};

}  // namespace sluice::uv
