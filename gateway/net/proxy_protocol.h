// The PROXY protocol, versions 1 and 2, as a sender writes it: tells a TCP upstream who the client
// is. Pure.
#pragma once

#include <string>

#include "net/address.h"

namespace sluice::net {

enum class ProxyProtocolVersion { v1, v2 };

// `local` is the address that the client connected to. A client on a unix socket, or addresses of
// two families, make UNKNOWN (v1) or LOCAL (v2).
std::string proxy_header(ProxyProtocolVersion version, const Endpoint& client,
                         const Endpoint& local);

}  // namespace sluice::net
