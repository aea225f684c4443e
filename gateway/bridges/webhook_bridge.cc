#include "bridges/webhook_bridge.h"

#include "bridges/grip.h"
#include "bridges/webhook_events_bridge.h"
#include "bridges/webhook_message_bridge.h"

namespace sluice::bridges {
namespace {

const config::WebhookTarget& target(const HttpRoute& route) {
  return std::get<config::WebhookTarget>(route.route.target);
}

}  // namespace

WebhookBridgeFactory::WebhookBridgeFactory(const HttpRoute& route, Channels& channels)
    : route_(route), channels_(channels), grip_key_(decode_grip_key(target(route).grip_key)) {
  channels_.use(route.context.wheel);
}

WebhookBridgeFactory::~WebhookBridgeFactory() = default;

std::unique_ptr<Bridge> WebhookBridgeFactory::create(ClientSocket& socket) {
  if (target(route_).protocol == config::WebhookTarget::Protocol::message) {
    return std::make_unique<WebhookMessageBridge>(route_, socket);
  }
  return std::make_unique<WebhookEventsBridge>(route_, channels_, grip_key_, socket);
}

}  // namespace sluice::bridges
