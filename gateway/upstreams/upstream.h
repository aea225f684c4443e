// Upstream: the endpoints of one service, which of them are fit to be used, and whose turn it is.
//
// Shared by the workers and the main thread, which checks health and resolves names
// (upstreams/checker.h). Every function may be called on any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
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
  Endpoint(const config::Endpoint& config);

  const std::string& name() const { return config_.address; }  // as configured; the metrics' label
  std::uint32_t weight() const { return config_.weight; }
  const std::string& host() const { return host_; }  // without the port; empty for unix
  // The last good answer of the resolver; empty if there was none yet.
  std::vector<net::Address> addresses() const;
  void set_addresses(std::vector<net::Address> addresses);
  bool needs_resolving() const;

  metrics::EndpointCounters& counters() const { return counters_; }

 private:
  friend class Upstream;
  friend class Lease;

  const config::Endpoint& config_;
  std::string host_;
  mutable std::mutex mutex_;
  std::vector<net::Address> addresses_;  // guarded by mutex_
  mutable metrics::EndpointCounters counters_;
  // Plus whatever upstream.cc needs: health, ejection, slow start. Guarded by Upstream's mutex or
  // atomic.
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
  void release();

 private:
  std::shared_ptr<Upstream> upstream_;
  Endpoint* endpoint_ = nullptr;
};

class Upstream : public std::enable_shared_from_this<Upstream> {
 public:
  // Reads TLS files. `config` is kept.
  static Result<std::shared_ptr<Upstream>> create(std::string name, config::Upstream config);

  const std::string& name() const { return name_; }
  const config::Upstream& config() const { return config_; }
  const std::shared_ptr<const net::TlsClientContext>& tls() const { return tls_; }
  std::span<const std::unique_ptr<Endpoint>> endpoints() const { return endpoints_; }
  metrics::UpstreamCounters& counters() const { return counters_; }

  enum class NoEndpoint { all_down, all_full };
  // Chooses among the healthy endpoints with room that are not in `tried`, by config().balance, and
  // takes a place on it. If all are unhealthy or ejected, it chooses among all of them: a wrong
  // guess costs one attempt, a refusal costs the client. `hash_key` matters for Balance::hash.
  tl::expected<Lease, NoEndpoint> pick(std::string_view hash_key,
                                       std::span<const Endpoint* const> tried);

  // What connections and requests tell of an endpoint: consecutive failures eject it.
  void report_success(Endpoint& endpoint, std::uint64_t connect_us);
  void report_failure(Endpoint& endpoint, metrics::ConnectFailure failure);
  // What the health checker tells. Returns whether the endpoint has just become up or down.
  bool report_check(Endpoint& endpoint, bool healthy);
  bool is_up(const Endpoint& endpoint) const;  // healthy and not ejected

  // Called on the thread that found an endpoint down, if config().on_endpoint_down is close: a
  // worker subscribes and posts to its own loop. Returns a number for unsubscribe().
  using OnDown = std::function<void(const Endpoint&)>;
  std::uint64_t subscribe(OnDown on_down);
  void unsubscribe(std::uint64_t subscription);

 private:
  Upstream(std::string name, config::Upstream config);

  const std::string name_;
  const config::Upstream config_;
  std::shared_ptr<const net::TlsClientContext> tls_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  mutable metrics::UpstreamCounters counters_;
};

}  // namespace sluice::upstreams
