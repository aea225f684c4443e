// ClientRequest: a client's request as the gateway's own bridges and relays see it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/request.h"
#include "net/address.h"

namespace sluice {

struct ClientRequest {
  const http::Request& request;
  // What remains of the path below the prefix of a route that ends in "/*"; the whole path for
  // other routes.
  std::string_view rest;
  // The values of the {name} segments of the route's path, as they stand in it.
  const std::vector<std::pair<std::string, std::string>>& parameters;
  net::Endpoint client;
  bool secure;  // came over TLS
};

}  // namespace sluice
