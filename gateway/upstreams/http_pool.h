// HttpPool: the idle HTTP connections of one worker to all upstreams.
//
// An idle connection is read: whatever comes (its end, or bytes that nobody asked for) takes it out
// of the pool. On the worker's thread.
#pragma once

#include <memory>
#include <optional>

#include "upstreams/upstream.h"
#include "worker_context.h"

namespace sluice::upstreams {

class HttpPool {
 public:
  explicit HttpPool(WorkerContext& context);
  ~HttpPool();
  HttpPool(const HttpPool&) = delete;
  HttpPool& operator=(const HttpPool&) = delete;

  struct Idle {
    std::unique_ptr<net::Transport> transport;  // reading is off; call set_owner() at once
    Lease lease;
  };
  // The connection that idled the shortest, to an endpoint that is up; empty if there is none. With
  // Balance::hash only the hash's own endpoint will do.
  std::optional<Idle> take(const std::shared_ptr<Upstream>& upstream, std::string_view hash_key);
  // `timeout_ms`: how long the upstream said it would keep the connection (Keep-Alive: timeout), if
  // it did; the pool gives up earlier than that.
  void give_back(const std::shared_ptr<Upstream>& upstream, Idle idle,
                 std::optional<std::uint64_t> timeout_ms);
  // Closes all of them: the worker ends.
  void clear();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::upstreams
