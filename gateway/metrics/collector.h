// Collector: writes down what the workers have counted, in Prometheus' text exposition format.
//
// docs/metrics.md describes every family; a test holds the two equal.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "metrics/counters.h"
#include "metrics/upstream_counters.h"

namespace sluice::metrics {

// What a scrape reads. Nothing here is null, and all of it outlives the call.
struct Sources {
  std::vector<const WorkerCounters*> workers;  // each with route_names.size() + 1 routes
  std::vector<const ListenerCounters*> listeners;
  const MemoryCounters* memory = nullptr;
  const std::atomic<bool>* draining = nullptr;
  // Config::routes by index. Unique, and none of them "none": that names the requests without one.
  std::vector<std::string> route_names;
  std::vector<UpstreamSource> upstreams;  // names unique; so are the endpoints' in each
  std::uint32_t plugin_abi = 0;
  double config_last_reload_success_seconds = 0;  // since the Unix epoch
};

inline constexpr const char* content_type = "text/plain; version=0.0.4; charset=utf-8";

// The whole answer to GET /metrics, as of now. Any thread, usually the main one: it only reads, and
// takes no lock. It looks once at every connection's slot, so it costs the calling thread time that
// grows with the connections, and the workers none.
std::string collect(const Sources& sources);

}  // namespace sluice::metrics
