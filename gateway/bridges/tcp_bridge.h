// The tcp bridge: a client's WebSocket to raw bytes of an upstream, and back. Message boundaries
// carry no meaning, and no message is ever held whole.
#pragma once

#include <cstdint>
#include <memory>

#include "bridge.h"
#include "config/config.h"
#include "upstreams/registry.h"
#include "worker_context.h"

namespace sluice::bridges {

class OutageWatch;
class TokenTable;

// Where the clients of one tcp route go. Shared by the workers.
struct TcpTargets {
  std::shared_ptr<upstreams::Upstream> upstream;  // null: by token
  std::shared_ptr<TokenTable> tokens;             // null: without

  // Reads the token file. `registry` outlives the targets.
  static Result<std::shared_ptr<const TcpTargets>> create(const config::TcpTarget& target,
                                                          upstreams::Registry& registry);
};

// What the bridges of one tcp route on one worker have in common.
struct TcpRoute {
  WorkerContext& context;
  const config::Route& route;
  const config::TcpTarget& target;
  std::shared_ptr<const TcpTargets> targets;
  std::uint64_t dial_timeout_ms;
};

class TcpBridgeFactory final : public BridgeFactory {
 public:
  // All of them outlive the factory's bridges. The route's target is a TcpTarget.
  // `handshake_timeout_ms`: when the gateway answers a client for whom there is no upstream yet.
  TcpBridgeFactory(WorkerContext& context, const config::Route& route,
                   std::shared_ptr<const TcpTargets> targets,
                   std::uint64_t handshake_timeout_ms = 10'000);
  ~TcpBridgeFactory() override;
  std::unique_ptr<Bridge> create(ClientSocket& socket) override;

 private:
  const TcpRoute route_;
  const std::unique_ptr<OutageWatch> outages_;
};

}  // namespace sluice::bridges
