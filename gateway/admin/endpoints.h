// The endpoints of the metrics listener: what may be read by anybody who can reach it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "http/handler.h"
#include "metrics/collector.h"

namespace sluice::admin {

// GET /metrics. The sources outlive the handler.
std::unique_ptr<const http::Handler> make_metrics(const metrics::Sources& sources);

// GET /healthz: 200 as long as the process answers, draining or not, so that nobody restarts a
// process that is about to end by itself.
std::unique_ptr<const http::Handler> make_health();

// GET /readyz: 200, and 503 as long as `obstacle` says why new clients are not wanted, so that load
// balancers send nobody. Empty: they are. It is called for each request, on the thread that serves.
std::unique_ptr<const http::Handler> make_readiness(std::function<std::string()> obstacle);

}  // namespace sluice::admin
