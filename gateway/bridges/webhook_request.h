// What the requests of a webhook's bridges have in common: the fields of the client's handshake
// that go along with each of them, and those of the backend's first answer that go back. Pure, but
// for the connection's id.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bridges/http_route.h"
#include "client_request.h"
#include "http/response.h"
#include "http/response_head.h"
#include "upstreams/http_exchange.h"

namespace sluice::bridges {

// The request for the backend as far as it is the same for every event of the connection: path,
// forwarded fields, the fields of the handshake that `handshake_fields` names, Connection-Id.
// Nothing that a client may not say of itself (Meta-*, Grip-*, Sluice-*, Connection-Id), and
// nothing that describes a body.
upstreams::HttpRequest webhook_request(const HttpRoute& route, const ClientRequest& handshake,
                                       std::span<const std::string_view> handshake_fields,
                                       std::string_view connection_id);

// An UUID (RFC 9562, version 4): nobody can guess the id of another connection.
std::string make_connection_id();

// The subprotocol: the backend's choice, or the route's if it made none; empty if neither has one.
std::string chosen_protocol(const http::ResponseHead& head, const config::Route& route,
                            const std::vector<std::string>& offered);
// Those that a client offers, in its order.
std::vector<std::string> offered_protocols(const http::Request& handshake);

// The fields of a backend's answer that the client's 101 has too.
std::vector<http::Header> opening_headers(const http::ResponseHead& head);
// The backend's refusal of the handshake, for the client. A body of more than 100,000 bytes is left
// out.
http::Response relayed_refusal(const http::ResponseHead& head, const std::string& body);

}  // namespace sluice::bridges
