// WorkerContext: what a worker lends to the bridges and upstream connections that it runs.
#pragma once

#include "base/timer_wheel.h"
#include "base/turn.h"
#include "metrics/counters.h"
#include "net/socket.h"
#include "uv/loop.h"
#include "ws/compression.h"

namespace sluice {

// One a worker, for its thread only; outlives everything that was made with it.
struct WorkerContext {
  uv::Loop& loop;
  TimerWheel& wheel;
  net::IoBuffers& buffers;
  Turn& turn;
  metrics::WorkerCounters& counters;
  ws::CompressionPool& compression;
};

}  // namespace sluice
