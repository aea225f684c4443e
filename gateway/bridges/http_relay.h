// The http relay: an http route's plain requests, passed on to an upstream, streamed both ways.
#pragma once

#include <memory>

#include "bridges/http_route.h"
#include "client_request.h"
#include "relay.h"
#include "upstreams/http_exchange.h"

namespace sluice::bridges {

class OutageWatch;

class HttpRelayFactory final : public RelayFactory {
 public:
  // The route's target is an HttpTarget.
  explicit HttpRelayFactory(const HttpRoute& route);
  ~HttpRelayFactory() override;
  std::unique_ptr<Relay> create() override;

 private:
  const HttpRoute route_;
  const std::shared_ptr<OutageWatch> outages_;  // relays may outlive the factory
};

// Serves a client whose upgrade request the upstream has answered like a plain one: its response's
// head has come, the rest follows. To be called in on_response(); the exchange's former owner hears
// of nothing more. Its connection to the upstream is never used again.
std::unique_ptr<Relay> relay_response(std::unique_ptr<upstreams::HttpExchange> exchange,
                                      const http::ResponseHead& head);

}  // namespace sluice::bridges
