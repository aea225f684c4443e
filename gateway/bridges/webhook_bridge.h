// The webhook bridge: a client's WebSocket as HTTP requests to an upstream that knows nothing else:
// WebSocket-over-HTTP with GRIP, or one POST per message.
#pragma once

#include <memory>
#include <string>

#include "bridge.h"
#include "bridges/channels.h"
#include "bridges/http_route.h"

namespace sluice::bridges {

class WebhookBridgeFactory final : public BridgeFactory {
 public:
  // The route's target is a WebhookTarget. `channels` are the worker's.
  WebhookBridgeFactory(const HttpRoute& route, Channels& channels);
  ~WebhookBridgeFactory() override;
  std::unique_ptr<Bridge> create(ClientSocket& socket) override;

 private:
  const HttpRoute route_;
  Channels& channels_;
  const std::string grip_key_;  // decoded
};

}  // namespace sluice::bridges
