// A gateway's worth of counters without a gateway.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "metrics/collector.h"

namespace sluice::metrics::test {

struct Scene {
  Scene(std::size_t worker_count, std::vector<std::string> route_names) {
    for (std::size_t i = 0; i < worker_count; ++i) workers.emplace_back(route_names.size());
    for (const WorkerCounters& worker : workers) sources.workers.push_back(&worker);
    sources.listeners = {&listener};
    sources.memory = &memory;
    sources.draining = &draining;
    sources.route_names = std::move(route_names);
    sources.plugin_abi = 1;
    sources.config_last_reload_success_seconds = 1'700'000'000;
  }

  struct Service {
    UpstreamCounters upstream;
    std::deque<EndpointCounters> endpoints;
  };
  Service& add_upstream(std::string name, const std::vector<std::string>& endpoints) {
    Service& service = services.emplace_back();
    UpstreamSource& source = sources.upstreams.emplace_back();
    source.name = std::move(name);
    source.counters = &service.upstream;
    for (const std::string& endpoint : endpoints) {
      source.endpoints.push_back({endpoint, &service.endpoints.emplace_back()});
    }
    return service;
  }

  RouteCounters& route(std::size_t worker, std::size_t index) {
    return workers[worker].routes[index];
  }

  std::deque<WorkerCounters> workers;
  std::deque<Service> services;
  ListenerCounters listener;
  MemoryCounters memory;
  std::atomic<bool> draining{false};
  Sources sources;
};

}  // namespace sluice::metrics::test
