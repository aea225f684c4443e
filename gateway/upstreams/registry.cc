#include "upstreams/registry.h"

#include <utility>

namespace sluice::upstreams {

std::vector<Error> Registry::load(const std::map<std::string, config::Upstream>& upstreams) {
  std::vector<Error> errors;
  for (const auto& [name, config] : upstreams) {
    auto upstream = Upstream::create(name, config);
    if (upstream) {
      upstreams_.insert_or_assign(name, std::move(*upstream));
    } else {
      errors.push_back({"upstream \"" + name + "\": " + upstream.error().message});
    }
  }
  return errors;
}

std::shared_ptr<Upstream> Registry::find(std::string_view name) const {
  const auto found = upstreams_.find(name);
  return found == upstreams_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<Upstream>> Registry::all() const {
  std::vector<std::shared_ptr<Upstream>> all;
  for (const auto& [name, upstream] : upstreams_) all.push_back(upstream);
  return all;
}

Result<std::shared_ptr<Upstream>> Registry::on_demand(const std::string& address) {
  std::shared_ptr<Upstream> made;
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = by_address_.find(address); known != by_address_.end()) {
      on_demand_.splice(on_demand_.begin(), on_demand_, known->second);
      return on_demand_.front();
    }
    config::Upstream config;
    config.endpoints.push_back({address});
    auto created = Upstream::create(address, std::move(config), {}, on_demand_counters_);
    if (!created) return created;
    made = *created;
    on_demand_.push_front(made);
    by_address_.emplace(made->name(), on_demand_.begin());
    if (on_demand_.size() > on_demand_max) {
      by_address_.erase(on_demand_.back()->name());
      on_demand_.pop_back();  // whoever uses it keeps it
    }
  }
  if (made_) made_(made);
  return made;
}

void Registry::forget(const std::string& address) {
  const std::lock_guard lock(mutex_);
  const auto known = by_address_.find(address);
  if (known == by_address_.end()) return;
  const auto upstream = known->second;  // its name is the key
  by_address_.erase(known);
  on_demand_.erase(upstream);
}

Registry::Registry() {
  on_demand_counters_.endpoint->up.set(1);  // nobody has seen one that is down
}

std::vector<metrics::UpstreamSource> Registry::sources(bool with_on_demand) const {
  std::vector<metrics::UpstreamSource> sources;
  for (const auto& [name, upstream] : upstreams_) {
    metrics::UpstreamSource& source = sources.emplace_back();
    source.name = name;
    source.counters = &upstream->counters();
    for (const auto& endpoint : upstream->endpoints()) {
      source.endpoints.push_back({endpoint->name(), &endpoint->counters()});
    }
  }
  if (with_on_demand) {
    sources.push_back({"on demand",
                       on_demand_counters_.upstream.get(),
                       {{"other", on_demand_counters_.endpoint.get()}}});
  }
  return sources;
}

}  // namespace sluice::upstreams
