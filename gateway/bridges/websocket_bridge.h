// The websocket bridge: an http route's upgrade requests, passed on to an upstream that speaks
// WebSocket itself. Frames are relayed as they come.
#pragma once

#include <memory>

#include "bridge.h"
#include "bridges/http_route.h"

namespace sluice::bridges {

class WebSocketBridgeFactory final : public BridgeFactory {
 public:
  // The route's target is an HttpTarget.
  explicit WebSocketBridgeFactory(const HttpRoute& route);
  ~WebSocketBridgeFactory() override;
  std::unique_ptr<Bridge> create(ClientSocket& socket) override;

 private:
  HttpRoute route_;
};

}  // namespace sluice::bridges
