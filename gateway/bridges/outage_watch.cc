#include "bridges/outage_watch.h"

#include <algorithm>

namespace sluice::bridges {

OutageWatch::~OutageWatch() {
  for (const auto& [upstream, number] : subscriptions_) upstream->unsubscribe(number);
}

void OutageWatch::watch(std::shared_ptr<upstreams::Upstream> upstream) {
  if (upstream->config().on_endpoint_down != config::OnEndpointDown::close) return;
  const auto is_same = [&](const auto& known) { return known.first == upstream; };
  if (std::ranges::any_of(subscriptions_, is_same)) return;
  const std::uint64_t number = upstream->subscribe(
      [this, &loop = loop_, alive = std::weak_ptr(alive_)](const upstreams::Endpoint& endpoint) {
        // What was posted may run when the watch is gone.
        loop.post([this, alive, &endpoint] {
          if (!alive.expired()) tell(endpoint);
        });
      });
  subscriptions_.emplace_back(std::move(upstream), number);
}

void OutageWatch::add(Listener& listener) {
  if (!subscriptions_.empty()) listeners_.insert(&listener);
}

void OutageWatch::tell(const upstreams::Endpoint& endpoint) const {
  for (Listener* const listener : listeners_) listener->on_endpoint_down(endpoint);
}

}  // namespace sluice::bridges
