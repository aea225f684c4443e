#include "acceptor.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/address.h"

namespace sluice {

Acceptor::Acceptor(uv::Loop& loop, std::vector<Worker*> workers, Shared& shared,
                   const http::TrustedProxies& trusted_proxies, metrics::ListenerCounters& counters)
    : loop_(loop),
      workers_(std::move(workers)),
      shared_(shared),
      trusted_proxies_(trusted_proxies),
      counters_(counters) {}

Result<> Acceptor::listen(const config::Listener& listener, const net::TlsContext* tls) {
  const auto address = net::Address::parse(listener.address);
  if (!address) return tl::unexpected(address.error());
  auto opened = net::Listener::open(
      loop_, *address,
      {.backlog = static_cast<int>(listener.backlog), .reuse_port = listener.reuse_port},
      listeners_.size(), *this);
  if (!opened) return tl::unexpected(opened.error());
  listeners_.push_back(std::move(*opened));
  tls_.push_back(tls);
  return {};
}

void Acceptor::start() {
  for (const auto& listener : listeners_) listener->start();
}

void Acceptor::refuse() {
  for (const auto& listener : listeners_) listener->refuse();
}

void Acceptor::on_accept(net::Listener& listener, int fd, const net::Endpoint& peer) {
  counters_.accepted.add();
  if (shared_.connections.load(std::memory_order_relaxed) >= shared_.connections_shed_above) {
    ::close(fd);
    return report_full();
  }
  const auto admission = admit(peer);
  if (!admission) {
    ::close(fd);
    return;
  }
  // Sockets live long and stay where they are: each goes to the worker that has the fewest.
  Worker& worker = **std::ranges::min_element(workers_, {}, &Worker::load);
  const net::TlsContext* tls = tls_[listener.index()];
  if (&worker.loop() == &loop_) {
    worker.add(fd, peer, tls, *admission);
  } else {
    worker.post_connection(fd, peer, tls, *admission);
  }
}

// Nothing if the client is to be turned away at once.
std::optional<Admission> Acceptor::admit(const net::Endpoint& peer) {
  ClientCounts& clients = *shared_.clients;
  if (!clients.active() || trusted_proxies_.contains(peer.ip())) return Admission::uncounted;
  switch (clients.enter(peer)) {
    case ClientCounts::Verdict::welcome:
      return Admission::counted;
    case ClientCounts::Verdict::too_many_connections:
      return Admission::over_limit;
    case ClientCounts::Verdict::too_many_handshakes:
      break;
  }
  counters_.shed_handshakes.add();
  return std::nullopt;
}

void Acceptor::report_full() {
  counters_.shed.add();
  if (!full_log_.due(loop_.now_ms())) return;
  log::error("out of descriptors", {{"connections", shared_.connections.load()},
                                    {"closed_so_far", counters_.shed.get()}});
}

void Acceptor::on_accept_error(net::Listener& listener, int error, std::size_t shed) {
  report_accept_error(listener, error, shed, counters_);
}

void report_accept_error(const net::Listener& listener, int error, std::size_t shed,
                         metrics::ListenerCounters& counters) {
  switch (error) {
    case EMFILE:
      counters.errors_emfile.add();
      break;
    case ENFILE:
      counters.errors_enfile.add();
      break;
    case ENOBUFS:
    case ENOMEM:
      counters.errors_enobufs.add();
      break;
    default:
      counters.errors_other.add();
  }
  counters.shed.add(shed);
  log::error(
      "accept failed",
      {{"address", listener.address().to_string()}, {"why", std::strerror(error)}, {"shed", shed}});
}

}  // namespace sluice
