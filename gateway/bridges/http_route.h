// HttpRoute: what the bridges and relays of one http or webhook route share on one worker.
#pragma once

#include <cstdint>
#include <memory>

#include "config/config.h"
#include "http/forward.h"
#include "upstreams/http_pool.h"
#include "upstreams/upstream.h"
#include "worker_context.h"

namespace sluice::bridges {

// Everything in it outlives the bridges and relays.
struct HttpRoute {
  WorkerContext& context;
  upstreams::HttpPool& pool;
  std::shared_ptr<upstreams::Upstream> upstream;
  const config::Route& route;
  const http::TrustedProxies& trusted_proxies;
  // For all attempts together, and for the answer to a handshake: a little less than the time that
  // the client's has. If its own deadline came first, it would name nobody.
  std::uint64_t connect_timeout_ms = 9'500;
};

}  // namespace sluice::bridges
