// The endpoints of the metrics listener: what may be read by anybody who can reach it.
#pragma once

#include <atomic>
#include <memory>

#include "http/handler.h"
#include "metrics/collector.h"

namespace sluice::admin {

// GET /metrics. The sources outlive the handler.
std::unique_ptr<const http::Handler> make_metrics(const metrics::Sources& sources);

// GET /healthz: 200 as long as the process answers, draining or not, so that nobody restarts a
// process that is about to end by itself.
std::unique_ptr<const http::Handler> make_health();

// GET /readyz: 200, and 503 from the moment the process begins to shut down, so that load
// balancers send nobody any more. `draining` outlives the handler.
std::unique_ptr<const http::Handler> make_readiness(const std::atomic<bool>& draining);

}  // namespace sluice::admin
