// The opening handshake's request, as a server must check it (RFC 6455 4.2.1 and 4.4).
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "http/request.h"

namespace sluice::http {

struct Upgrade {
  std::string key;                             // Sec-WebSocket-Key
  std::vector<std::string> offered_protocols;  // in the client's order of preference
};

// Why a request opens no WebSocket.
struct Refusal {
  enum class Kind : std::uint8_t {
    not_websocket,  // 426: a plain request
    bad_request,    // 400
    method,         // 405: not GET
    version,        // 426: not version 13
  };
  Kind kind;
  int status;
  std::string message;          // a short sentence, for the body and the log
  std::vector<Header> headers;  // what the status asks for: Allow, Upgrade, Sec-WebSocket-Version
};

// Whether the request asks for a WebSocket: HTTP/1.1 with an Upgrade field that is exactly
// "websocket", in any case. Others, "h2c" and "websocket, h2c" among them, are plain requests.
bool is_upgrade_attempt(const Request& request);

// The Origin is not looked at here (http/origin.h), nor is Sec-WebSocket-Extensions: what becomes
// of an offer is the route's business, and a list that is none is 400 there (RFC 6455 9.1).
tl::expected<Upgrade, Refusal> validate_upgrade(const Request& request);

}  // namespace sluice::http
