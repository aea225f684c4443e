// Registry: the upstreams of the configuration by name. Shared by the workers; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "upstreams/upstream.h"

namespace sluice::upstreams {

class Registry {
 public:
  Registry();
  // Makes every upstream of the configuration. Errors name the upstream.
  std::vector<Error> load(const std::map<std::string, config::Upstream>& upstreams);

  // Null if there is none of this name.
  std::shared_ptr<Upstream> find(std::string_view name) const;
  // Those of the configuration, in the order of their names.
  std::vector<std::shared_ptr<Upstream>> all() const;

  // An upstream with one endpoint and every default, for an address of a token file; the same one
  // for the same address. At most `on_demand_max` of them: then the one that was asked for the
  // longest ago is forgotten. In the metrics they are one upstream, "on demand", with one endpoint
  // "other", so that a token file adds no labels.
  static constexpr std::size_t on_demand_max = 10'000;
  Result<std::shared_ptr<Upstream>> on_demand(const std::string& address);
  // No token leads there any more. Whoever uses it keeps it, and then its name is not looked up
  // either; whoever asks for it again gets another.
  void forget(const std::string& address);
  // Called with each upstream that on_demand() has made, on the thread that asked (the gateway has
  // it post to the Checker). Set before the workers start.
  void when_made(std::function<void(std::shared_ptr<Upstream>)> made) { made_ = std::move(made); }

  // For metrics::Sources, which this outlives: the upstreams of the configuration, and "on demand"
  // if there can be any.
  std::vector<metrics::UpstreamSource> sources(bool with_on_demand) const;

 private:
  using OnDemand = std::list<std::shared_ptr<Upstream>>;

  std::map<std::string, std::shared_ptr<Upstream>, std::less<>> upstreams_;
  std::function<void(std::shared_ptr<Upstream>)> made_;

  // What all that on_demand() made counts into.
  const Upstream::Counters on_demand_counters_ = {std::make_shared<metrics::UpstreamCounters>(),
                                                  std::make_shared<metrics::EndpointCounters>()};
  mutable std::mutex mutex_;
  OnDemand on_demand_;  // guarded by mutex_; the latest asked for first
  std::unordered_map<std::string_view, OnDemand::iterator> by_address_;  // guarded by mutex_
};

}  // namespace sluice::upstreams
