// HttpRoute: what the bridges and relays of one http or webhook route share on one worker.
#pragma once

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
};

}  // namespace sluice::bridges
