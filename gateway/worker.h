// Worker: one loop with the connections that were given to it. Everything here but
// post_connection() and load() happens on the loop's thread, without locks.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/timer_wheel.h"
#include "base/turn.h"
#include "bridge.h"
#include "client_counts.h"
#include "config/config.h"
#include "connection.h"
#include "metrics/counters.h"
#include "net/socket.h"
#include "overload.h"
#include "route_table.h"
#include "upstreams/http_pool.h"
#include "uv/loop.h"
#include "uv/timer.h"
#include "worker_context.h"
#include "ws/compression.h"

namespace sluice {

// What all workers share.
struct Shared {
  std::atomic<std::uint32_t> connections{0};  // of all workers, handshaking ones included
  std::uint32_t connections_max = 0;          // those above it are told so, by a 503
  std::uint32_t connections_shed_above = 0;   // those above it are closed when accepted: for lack
                                              // of descriptors
  ClientCounts* clients = nullptr;            // null: clients are not counted
  std::atomic<OverloadLevel> overload{OverloadLevel::none};
};

// Where a WebSocket counts, besides max_connections, until what it has left to its bridge has gone.
struct ClientPlaces {
  std::optional<net::Endpoint> client;                  // in ClientCounts; none: not counted there
  bool opened = false;                                  // as a WebSocket
  std::atomic<std::uint32_t>* open_on_route = nullptr;  // ServedRoute::open
};

class Worker final : private Bridge::Keeper {
 public:
  // Everything passed by reference outlives the worker. `index` numbers the connections.
  Worker(std::uint32_t index, uv::Loop& loop, const config::Config& config, Shared& shared,
         metrics::WorkerCounters& counters);
  // All connections must be gone.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Before the first connection.
  RouteTable& routes() { return routes_; }
  // For bridges and relays.
  WorkerContext& context() { return context_; }
  upstreams::HttpPool& http_pool() { return http_pool_; }

  // ---- On any thread
  // Has add() called.
  void post_connection(int fd, const net::Endpoint& peer, const net::TlsContext* tls,
                       Admission admission);
  // Connections it has, those under way to it included.
  std::uint32_t load() const { return load_.load(std::memory_order_relaxed); }

  // ---- On the loop's thread
  // Takes an accepted socket. `tls` outlives the worker.
  void add(int fd, const net::Endpoint& peer, const net::TlsContext* tls, Admission admission);
  // The same for a plain transport that nobody has posted: tests have theirs in memory.
  void add(std::unique_ptr<net::Transport> transport, const net::Endpoint& peer);
  // Closes every connection politely, and cuts those that are left after `timeout_ms`. Calls
  // `on_empty` when none is left.
  void drain(std::uint64_t timeout_ms, std::function<void()> on_empty);
  // Gives back to the system what is kept for reuse.
  void shrink();
  // Drops bridges whose clients have gone, then the clients for which the most bytes wait, until
  // `bytes` are free or none has many.
  void evict(std::uint64_t bytes);
  // Ends a drain now.
  void cut();

  // ---- For connections
  void wake(Connection& connection) { woken_.push_back(&connection); }
  void retire(Connection& connection) { retired_.push_back(&connection); }
  // Takes a bridge whose socket has closed, until it has delivered what there was. False if there
  // was nothing; else it has the connection's places as long, in all that is limited.
  bool part_with(std::unique_ptr<Bridge> bridge, const ClientPlaces& places);
  Turn& turn() { return turn_; }
  uv::Loop& loop() { return loop_; }
  TimerWheel& wheel() { return wheel_; }
  net::IoBuffers& buffers() { return buffers_; }
  const config::Config& config() const { return config_; }
  metrics::WorkerCounters& counters() { return counters_; }
  // There are more connections, on all workers, than there may be.
  bool is_full() const {
    return shared_.connections.load(std::memory_order_relaxed) > shared_.connections_max;
  }
  bool is_short_of_memory() const {
    return shared_.overload.load(std::memory_order_relaxed) >= OverloadLevel::refuse;
  }
  // The number of a connection in the log: below 2^53, so that every reader of it can hold it.
  std::uint64_t id_of(std::uint32_t serial) const {
    return (static_cast<std::uint64_t>(index_) << 40) | serial;
  }
  ClientCounts& clients() { return *shared_.clients; }
  bool draining() const { return draining_; }
  const std::string& http_date();

 private:
  // Bridge::Keeper
  void on_bridge_done(Bridge& bridge) override;

  // Whose socket has closed.
  struct Kept {
    std::unique_ptr<Bridge> bridge;
    ClientPlaces places;
  };

  void count_connection();
  void forget_connection();
  void release(Kept& kept);
  std::uint64_t cut_kept(std::uint64_t bytes);
  void take(int fd, const net::Endpoint& peer, const net::TlsContext* tls, Admission admission);
  void keep(std::unique_ptr<Connection> connection);
  void turn_end();
  bool run_woken();
  void destroy_retired();
  void tick();
  void start_ticking();
  void look_at_compression();
  void report_if_empty();

  const std::uint32_t index_;
  uv::Loop& loop_;
  uv::Loop::HookId hook_ = 0;
  const config::Config& config_;
  Shared& shared_;
  metrics::WorkerCounters& counters_;
  net::IoBuffers buffers_;
  ws::CompressionPool compression_;
  TimerWheel wheel_;
  Turn turn_;
  WorkerContext context_;
  upstreams::HttpPool http_pool_;
  RouteTable routes_;
  uv::Timer ticker_;
  std::uint64_t tick_due_ns_ = 0;
  std::uint64_t compression_trimmed_ms_ = 0;
  std::atomic<std::uint32_t> load_{0};

  std::vector<std::unique_ptr<Connection>> connections_;  // each knows its place
  std::uint32_t serial_ = 0;
  std::vector<Connection*> woken_;
  std::vector<Connection*> waking_;  // the ones turn_end() is busy with
  std::vector<Connection*> retired_;
  std::unordered_map<Bridge*, Kept> kept_;

  std::string http_date_;
  std::uint64_t http_date_ms_ = 0;

  bool draining_ = false;
  bool cut_ = false;
  std::unique_ptr<uv::Timer> drain_deadline_;
  std::function<void()> on_empty_;
};

}  // namespace sluice
