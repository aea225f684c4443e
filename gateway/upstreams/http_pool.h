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
    std::uint64_t user_timeout_ms = 0;  // as the transport has it
  };
  // The connection to the lease's endpoint that idled the shortest, which takes the lease over;
  // empty, and the lease is left alone, if there is none. Neither its end nor bytes have arrived
  // up to now, but may the next moment. It leads to an address that the endpoint's name still has;
  // those that do not are closed.
  std::optional<Idle> take(const std::shared_ptr<Upstream>& upstream, Lease& lease);
  // Nothing is under way on the connection in either direction. An idle connection is no load: its
  // lease ends, so that it counts neither in balancing nor for max_connections. `timeout_ms`: how
  // long the upstream said it would keep it (Keep-Alive: timeout), if it did; the pool gives up
  // earlier than that. Inside the transport's events too.
  void give_back(const std::shared_ptr<Upstream>& upstream, Idle idle,
                 std::optional<std::uint64_t> timeout_ms);
  // Idle connections, to whichever upstream.
  std::size_t size() const;
  // Closes all of them: the worker ends, or memory is short.
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
