// What an upstream is asked for a client's request: by relays and bridges alike. Without I/O.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bridges/http_route.h"
#include "client_request.h"
#include "upstreams/http_exchange.h"

namespace sluice::bridges {

// The upstream's request for a client's, all but what frames the body: the path rewritten, the
// fields forwarded (http/forward.h). An upgrade's own fields are the caller's to add. The route's
// target is an HttpTarget or a WebhookTarget.
upstreams::HttpRequest upstream_request(const HttpRoute& route, const ClientRequest& request);

// What of a request's trailers is for the upstream. About the fields that the route sets or removes
// it has the last word: some servers merge trailers into the head's fields.
std::vector<http::Header> upstream_trailers(const HttpRoute& route,
                                            std::vector<http::Header> trailers);

// What the upstream's balance hashes of this request; empty with another balance, and if the
// request has nothing of it.
std::string hash_key(const config::Upstream& upstream, const ClientRequest& request);

// How long connecting may take, of the time that a client's opening handshake has: there must be
// some left to tell the client what happened.
std::uint64_t dial_timeout(std::uint64_t handshake_timeout_ms);

}  // namespace sluice::bridges
