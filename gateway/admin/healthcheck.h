// The other side of /healthz: what `sluice healthcheck` asks a running gateway, so that a container
// needs no curl.
#pragma once

#include <string>

#include "base/result.h"

namespace sluice::admin {

// Asks GET /healthz at a metrics listener's address; a wildcard address is asked on loopback.
// Blocks for a few seconds at most. Fails unless the answer is 200.
Result<> check_health(const std::string& address);

}  // namespace sluice::admin
