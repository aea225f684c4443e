// Upstream: the endpoints of one service, which of them are fit to be used, and whose turn it is.
//
// Shared by the workers and the main thread, which checks health and resolves names
// (upstreams/checker.h). Every function may be called on any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "metrics/upstream_counters.h"
#include "net/address.h"
#include "net/tls_client_context.h"

namespace sluice::upstreams {

class Upstream;

// One address of a service. Lives as long as its upstream.
class Endpoint {
 public:
  // `config` outlives it.
  Endpoint(const config::Endpoint& config, std::shared_ptr<metrics::EndpointCounters> counters);

  const std::string& name() const { return config_.address; }  // as configured; the metrics' label
  std::uint32_t weight() const { return config_.weight; }
  const std::string& host() const { return host_; }  // without the port; empty for unix
  std::uint16_t port() const { return port_; }       // 0 for unix

  // The last good answer of the resolver; empty if there was none yet.
  std::vector<net::Address> addresses() const;
  // The same, each time with another one first: whoever connects takes them in turn. But the second
  // one of localhost, which no resolver has named, is for want of the first.
  std::vector<net::Address> addresses_in_turn();
  // These have failed: they come behind the others, until the next answer of the resolver.
  void put_last(std::span<const net::Address> failed);
  void set_addresses(std::vector<net::Address> addresses);
  bool has_address(const net::Address& address) const;
  bool needs_resolving() const { return needs_resolving_; }
  // What the resolver last said if it failed and there are no addresses; empty otherwise, as before
  // its first answer.
  std::string resolve_error() const;
  void set_resolve_error(std::string error);

  metrics::EndpointCounters& counters() const { return *counters_; }

 private:
  friend class Upstream;

  const config::Endpoint& config_;
  std::string host_;
  std::uint16_t port_ = 0;
  std::uint64_t name_hash_;
  bool needs_resolving_ = false;
  std::shared_ptr<metrics::EndpointCounters> counters_;

  mutable std::mutex mutex_;
  std::vector<net::Address> addresses_;  // guarded by mutex_
  std::size_t failed_ = 0;               // guarded by mutex_; of addresses_, the last ones
  std::size_t connects_ = 0;             // guarded by mutex_
  std::string resolve_error_;            // guarded by mutex_
  std::atomic<bool> resolved_{false};    // addresses_ is not empty

  // Written under the upstream's mutex.
  std::atomic<bool> healthy_{true};
  std::atomic<std::uint64_t> ejected_until_ms_{0};  // 0: not ejected
  // The rest is guarded by the upstream's mutex.
  std::uint32_t checks_in_row_ = 0;  // that contradict healthy_
  std::uint32_t failures_in_row_ = 0;
  std::uint32_t ejections_in_row_ = 0;
  std::uint64_t slow_from_ms_ = 0;  // when it came back; 0: long ago, or never gone
  double turn_ = 0;                 // of the smooth weighted round robin
};

// A connection that an endpoint has, from the attempt to the end. Counts it as active.
class Lease {
 public:
  Lease() = default;
  explicit Lease(std::shared_ptr<Upstream> upstream, Endpoint* endpoint);
  ~Lease() { release(); }
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;

  Endpoint* endpoint() const { return endpoint_; }  // null: empty
  const Upstream* upstream() const { return upstream_.get(); }
  void release();

 private:
  std::shared_ptr<Upstream> upstream_;
  Endpoint* endpoint_ = nullptr;
};

class Upstream : public std::enable_shared_from_this<Upstream> {
 public:
  using Clock = std::function<std::uint64_t()>;  // milliseconds, monotonic; any thread

  // Counters that several upstreams share, for those that are not to be told apart.
  struct Counters {
    std::shared_ptr<metrics::UpstreamCounters> upstream;
    std::shared_ptr<metrics::EndpointCounters> endpoint;
  };

  // Reads TLS files. `config` is kept. Without a clock it is the system's, without counters its
  // own.
  static Result<std::shared_ptr<Upstream>> create(std::string name, config::Upstream config,
                                                  Clock clock = {}, Counters counters = {});

  const std::string& name() const { return name_; }
  const config::Upstream& config() const { return config_; }
  const std::shared_ptr<const net::TlsClientContext>& tls() const { return tls_; }
  // For SNI and verification.
  const std::string& server_name(const Endpoint& endpoint) const;
  std::span<const std::unique_ptr<Endpoint>> endpoints() const { return endpoints_; }
  metrics::UpstreamCounters& counters() const { return *counters_; }

  enum class NoEndpoint { all_down, all_full };
  // Chooses among the healthy endpoints with room that are not in `tried`, by config().balance, and
  // takes a place on it. If all are unhealthy or ejected, it chooses among all of them: a wrong
  // guess costs one attempt, a refusal costs the client. `hash_key` matters for Balance::hash; one
  // that is empty (a client without the cookie) goes where least_connections would send it.
  tl::expected<Lease, NoEndpoint> pick(std::string_view hash_key,
                                       std::span<const Endpoint* const> tried);
  // The endpoint that pick() would now choose for this key by Balance::hash, room or not; null if
  // any will do: another balance, or an empty key. For connections that are kept.
  const Endpoint* owner_of(std::string_view hash_key);

  // What connections and requests tell of an endpoint: consecutive failures eject it. Both count.
  void report_success(Endpoint& endpoint, std::uint64_t connect_us);
  void report_failure(Endpoint& endpoint, metrics::ConnectFailure failure);
  // What the health checker tells. Returns whether the endpoint has just become unhealthy, or come
  // up: one that is healthy again, but ejected, comes up with the end of that.
  bool report_check(Endpoint& endpoint, bool healthy);
  bool is_up(const Endpoint& endpoint) const;  // healthy and not ejected
  // Ends the ejections that are over. pick() does it too; this is for upstreams nobody asks for, so
  // that their metrics and slow starts are right.
  void end_ejections();

  // Called on the thread that found an endpoint unhealthy or ejected it, if
  // config().on_endpoint_down is close: a worker subscribes and posts to its own loop. Returns a
  // number for unsubscribe(), after which it is not called any more. It must not subscribe or
  // unsubscribe itself.
  using OnDown = std::function<void(const Endpoint&)>;
  std::uint64_t subscribe(OnDown on_down);
  void unsubscribe(std::uint64_t subscription);

 private:
  using Candidates = std::vector<Endpoint*>;

  Upstream(std::string name, config::Upstream config, Clock clock, Counters counters);

  // All of these: with mutex_ held.
  Candidates fit(std::span<const Endpoint* const> tried, std::uint64_t now_ms);
  bool has_room(const Endpoint& endpoint) const;
  Endpoint* choose(const Candidates& candidates, std::string_view hash_key, std::uint64_t now_ms);
  Endpoint* by_load(const Candidates& candidates, std::uint64_t now_ms);
  Endpoint* by_turn(const Candidates& candidates, std::uint64_t now_ms);
  Endpoint* by_chance(const Candidates& candidates, std::uint64_t now_ms);
  Endpoint* by_hash(const Candidates& candidates, std::string_view key, std::uint64_t now_ms) const;
  double weight(const Endpoint& endpoint, std::uint64_t now_ms) const;
  double load(const Endpoint& endpoint, std::uint64_t now_ms) const;
  std::uint64_t random();
  bool is_up_at(const Endpoint& endpoint, std::uint64_t now_ms) const;
  bool may_eject(const Endpoint& endpoint, std::uint64_t now_ms) const;
  void eject(Endpoint& endpoint, std::uint64_t now_ms);
  Candidates take_back(std::uint64_t now_ms);
  void show(Endpoint& endpoint, std::uint64_t now_ms);

  // And of these: without it.
  void tell_down(const Endpoint& endpoint);
  void log_back(const Candidates& back) const;

  const std::string name_;
  const config::Upstream config_;
  const Clock clock_;
  std::shared_ptr<const net::TlsClientContext> tls_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::shared_ptr<metrics::UpstreamCounters> counters_;

  std::mutex mutex_;
  std::uint64_t random_state_;              // guarded by mutex_
  std::uint64_t next_ejection_end_ms_ = 0;  // guarded by mutex_; 0: none is ejected

  std::mutex subscribers_mutex_;
  std::map<std::uint64_t, OnDown> subscribers_;  // guarded by subscribers_mutex_
  std::uint64_t last_subscription_ = 0;          // guarded by subscribers_mutex_
};

}  // namespace sluice::upstreams
