// The opening handshake with an upstream, as a client must make and check it (RFC 6455 4.1). Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/request.h"
#include "http/response_head.h"

namespace sluice::bridges {

// A Sec-WebSocket-Key that was never used before.
std::string fresh_key();

// The subprotocols that the client offers, byte for byte, as one value; empty if there are none.
std::string protocol_offer(const http::Request& client);

// What makes a request an upgrade, in addition to the fields that are forwarded. `extensions` is
// what is offered to the upstream of those; empty: none.
void add_upgrade_fields(std::string_view key, std::string_view offered, std::string_view extensions,
                        std::vector<http::Header>& headers);

// What the upstream's 101 says, once it is known to be one.
struct Switched {
  std::string protocol;               // the upstream's choice among those offered; empty: none
  std::string extensions;             // what it has agreed to, for others to judge; empty: none
  std::vector<http::Header> headers;  // for the client, such as Set-Cookie
};

// Checks a 101 that answers a request with these fields, but for what it agrees to of the
// extensions that were offered. The error is a short sentence for the log.
Result<Switched> verify_switch(const http::ResponseHead& head, std::string_view key,
                               std::string_view offered, std::string_view extensions = {});

}  // namespace sluice::bridges
