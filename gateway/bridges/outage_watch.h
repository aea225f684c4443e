// OutageWatch: tells the bridges of one route on one worker that an endpoint is down, if its
// upstream wants that (on_endpoint_down: close).
//
// Upstreams tell of it on any thread; the bridges hear of it from their worker's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_set>
#include <utility>
#include <vector>

#include "upstreams/upstream.h"
#include "uv/loop.h"

namespace sluice::bridges {

class OutageWatch {
 public:
  class Listener {
   public:
    // Neither add() nor remove() is called in it.
    virtual void on_endpoint_down(const upstreams::Endpoint& endpoint) = 0;

   protected:
    ~Listener() = default;
  };

  // The worker's loop outlives it. On the worker's thread, as everything here.
  explicit OutageWatch(uv::Loop& loop) : loop_(loop) {}
  ~OutageWatch();
  OutageWatch(const OutageWatch&) = delete;
  OutageWatch& operator=(const OutageWatch&) = delete;

  // Before the first add(). Upstreams that do not want it, and those watched already, are left out.
  void watch(std::shared_ptr<upstreams::Upstream> upstream);

  // A listener hears of all that is watched, and removes itself before it is destroyed.
  void add(Listener& listener);
  void remove(Listener& listener) { listeners_.erase(&listener); }

 private:
  void tell(const upstreams::Endpoint& endpoint) const;

  uv::Loop& loop_;
  std::vector<std::pair<std::shared_ptr<upstreams::Upstream>, std::uint64_t>> subscriptions_;
  std::unordered_set<Listener*> listeners_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>();  // expires with the watch
};

}  // namespace sluice::bridges
