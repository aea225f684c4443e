// The tcp bridge: a client's WebSocket to raw bytes of an upstream, and back. Message boundaries
// carry no meaning, and no message is ever held whole.
#pragma once

#include <memory>

#include "bridge.h"
#include "config/config.h"
#include "upstreams/registry.h"
#include "worker_context.h"

namespace sluice::bridges {

class TokenTable;

// Where the clients of one tcp route go. Shared by the workers.
struct TcpTargets {
  std::shared_ptr<upstreams::Upstream> upstream;  // null: by token
  std::shared_ptr<TokenTable> tokens;             // null: without

  // Reads the token file. `registry` outlives the targets.
  static Result<std::shared_ptr<const TcpTargets>> create(const config::TcpTarget& target,
                                                          upstreams::Registry& registry);
};

class TcpBridgeFactory final : public BridgeFactory {
 public:
  // All of them outlive the factory's bridges. The route's target is a TcpTarget.
  TcpBridgeFactory(WorkerContext& context, const config::Route& route,
                   std::shared_ptr<const TcpTargets> targets);
  ~TcpBridgeFactory() override;
  std::unique_ptr<Bridge> create(ClientSocket& socket) override;

 private:
  WorkerContext& context_;
  const config::Route& route_;
  std::shared_ptr<const TcpTargets> targets_;
};

}  // namespace sluice::bridges
