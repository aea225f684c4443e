// Checker: resolves the names of upstreams, and asks after the health of their endpoints, in the
// background of the main loop.
//
// A name is looked up at the start and again every dns_refresh_ms; the last good answer stays. With
// a health_check an endpoint begins as up, and is asked every interval. Both are spread over time,
// so that many endpoints are not asked at the same moment.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "net/socket.h"
#include "upstreams/upstream.h"
#include "uv/loop.h"

namespace sluice::upstreams {

class Checker {
 public:
  Checker(uv::Loop& loop, std::vector<std::shared_ptr<Upstream>> upstreams);
  // On the loop's thread; run the loop afterwards.
  ~Checker();
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  // Begins. `ready` is called from the loop once every name was answered, well or not, or after
  // `timeout_ms`: from then on connections may be made. Not more than once.
  void start(std::uint64_t timeout_ms, std::function<void()> ready);
  // Takes on an upstream that was made later (of a token file), as long as anybody else keeps it.
  // On the loop's thread.
  void add(const std::shared_ptr<Upstream>& upstream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::upstreams
