// HttpPool: the idle HTTP connections of one worker to all upstreams.
//
// An idle connection is read: whatever comes (its end, or bytes that nobody asked for) takes it out
// of the pool. On the worker's thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "net/transport.h"
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
  // Balance::hash only the hash's own endpoint will do. Its end has not arrived up to now, but may
  // the next moment.
  std::optional<Idle> take(const std::shared_ptr<Upstream>& upstream, std::string_view hash_key);
  // Nothing is under way on the connection in either direction. `timeout_ms`: how long the upstream
  // said it would keep it (Keep-Alive: timeout), if it did; the pool gives up earlier than that.
  // Inside the transport's events too.
  void give_back(const std::shared_ptr<Upstream>& upstream, Idle idle,
                 std::optional<std::uint64_t> timeout_ms);
  // Closes all of them: the worker ends.
  void clear();

 private:
  class Kept;
  using Shelf = std::vector<std::unique_ptr<Kept>>;  // of one upstream; the freshest is the last

  std::unique_ptr<Kept> remove(Shelf& shelf, std::size_t place);
  void drop(Kept& kept);

  WorkerContext& context_;
  std::map<const Upstream*, Shelf> shelves_;
};

// Closes a connection at the end of the turn, inside of whose event this may be; nobody hears of it
// any more.
void retire(Turn& turn, HttpPool::Idle connection);

}  // namespace sluice::upstreams
