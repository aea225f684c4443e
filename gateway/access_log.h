// The access log: a record when a WebSocket opens, one when it closes, and one for each request
// that is answered or refused. docs/logs.md describes the fields. `log.access: false` turns it off.
#pragma once

#include <cstdint>
#include <string_view>

#include "config/config.h"
#include "http/request.h"
#include "net/address.h"
#include "session.h"

namespace sluice::access_log {

// What every record begins with.
struct Subject {
  std::uint64_t connection;
  const net::Endpoint& client;
  std::string_view route;  // "none" if there is none
  // Of the upstream that the client was connected to; empty if there is none.
  std::string_view upstream = {};
  std::string_view endpoint = {};
  // A segment of the path that is a secret, as it stands there: the {token} of a tcp route.
  std::string_view token = {};
};

// `why` is empty for a request that was served.
void request(const config::Log& settings, const Subject& subject, const http::Request& request,
             int status, std::string_view why);

// What was agreed on; empty if nothing was.
struct Opening {
  std::string_view protocol;
  std::string_view extensions;
  std::string_view tls;  // the protocol's version
  std::uint64_t handshake_us;
};
void open(const config::Log& settings, const Subject& subject, const http::Request& request,
          const Opening& opening);

void close(const config::Log& settings, const Subject& subject, const SessionEnd& end,
           const Session::Totals& totals, std::uint64_t duration_ms);

}  // namespace sluice::access_log
