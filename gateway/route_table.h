// RouteTable: the routes of one configuration, as one worker serves them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "bridge.h"
#include "config/config.h"
#include "http/handler.h"
#include "relay.h"
#include "router.h"
#include "session.h"

namespace sluice {

// One route. `bridges`, or `http`, or `relays`, or `bridges` and `relays` are set.
struct ServedRoute {
  ServedRoute(const config::Route& route, std::uint32_t number)
      : config(route), index(number), session(route) {}

  const config::Route& config;
  std::uint32_t index;  // in Config::routes, and of its counters
  SessionSettings session;
  std::optional<SessionContext> sessions;     // since the first of them
  std::unique_ptr<BridgeFactory> bridges;     // WebSocket
  std::shared_ptr<const http::Handler> http;  // plain requests, answered at once
  std::unique_ptr<RelayFactory> relays;       // plain requests, answered from somewhere else
  bool upstream_chooses_protocol = false;     // the subprotocol, rather than the route
  std::atomic<std::uint32_t>* open =
      nullptr;  // sockets of the route on all workers, undecided ones too
};

class RouteTable {
 public:
  // What the configuration's routes match was checked when it was loaded.
  void add(std::unique_ptr<ServedRoute> route) {
    (void)router_.add(route->config.host, route->config.path,
                      static_cast<std::uint32_t>(routes_.size()));
    routes_.push_back(std::move(route));
  }

  struct Match {
    ServedRoute* route = nullptr;  // null: no route
    std::vector<std::pair<std::string_view, std::string_view>> parameters;
  };
  Match match(std::string_view host, std::string_view path) const {
    auto found = router_.match(host, path);
    if (!found) return {};
    return {routes_[found->route].get(), std::move(found->parameters)};
  }

 private:
  Router router_;
  std::vector<std::unique_ptr<ServedRoute>> routes_;
};

}  // namespace sluice
