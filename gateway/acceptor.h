// Acceptor: the gateway's listeners. Decides who is let in, and gives each connection to the worker
// that has the fewest, on the thread of one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "client_counts.h"
#include "config/config.h"
#include "http/forward.h"
#include "metrics/counters.h"
#include "net/listener.h"
#include "net/tls_context.h"
#include "worker.h"

namespace sluice {

class Acceptor final : private net::Listener::Owner {
 public:
  // At least one worker. One that lives on the same loop gets its connections at once, others are
  // posted theirs. `shared` counts clients. Everything passed by reference, and the workers,
  // outlive the acceptor. From start() on it is to be destroyed on the loop's thread.
  Acceptor(uv::Loop& loop, std::vector<Worker*> workers, Shared& shared,
           const http::TrustedProxies& trusted_proxies, metrics::ListenerCounters& counters);

  // Binds; before start(), on any thread. Nobody is let in yet. `tls`: null for a plain listener;
  // else it outlives the acceptor.
  Result<> listen(const config::Listener& listener, const net::TlsContext* tls);
  // On the loop's thread.
  void start();

  // ---- On any thread
  // net::Listener::refuse() of each.
  void refuse();
  // In the order in which they were opened. Their addresses never change.
  const std::vector<std::unique_ptr<net::Listener>>& listeners() const { return listeners_; }
  uv::Loop& loop() { return loop_; }

 private:
  // net::Listener::Owner
  void on_accept(net::Listener& listener, int fd, const net::Endpoint& peer) override;
  void on_accept_error(net::Listener& listener, int error, std::size_t shed) override;

  std::optional<Admission> admit(const net::Endpoint& peer);
  void report_full();

  uv::Loop& loop_;
  const std::vector<Worker*> workers_;
  Shared& shared_;
  const http::TrustedProxies& trusted_proxies_;
  metrics::ListenerCounters& counters_;
  log::Throttle full_log_;
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  std::vector<const net::TlsContext*> tls_;  // by the index of their listeners
};

// Counts and logs that accept(2) has failed on a listener.
void report_accept_error(const net::Listener& listener, int error, std::size_t shed,
                         metrics::ListenerCounters& counters);

}  // namespace sluice
