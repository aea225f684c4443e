// HandlePtr: owns a libuv handle until it is given back to the loop.
//
// A closed handle belongs to the loop: uv_close() returns at once, and the loop calls back later,
// when the handle may be freed. The owner is gone by then, so the handle forgets it first; every
// callback begins by asking whether its owner is still there.
#pragma once

#include <uv.h>

#include <memory>

namespace sluice::uv {

template <typename Handle>
struct HandleCloser {
  void operator()(Handle* handle) const {
    handle->data = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
  }
};

// Only for handles that were initialised on a loop: an uninitialised one must not be closed.
template <typename Handle>
using HandlePtr = std::unique_ptr<Handle, HandleCloser<Handle>>;

}  // namespace sluice::uv
