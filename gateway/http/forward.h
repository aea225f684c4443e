// What a proxy does to the head of a message on its way (RFC 9110 7.6). Without I/O.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "http/request.h"
#include "http/response_head.h"

namespace sluice::http {

// Addresses whose word about where a request came from is taken.
class TrustedProxies {
 public:
  // "10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "unix". An IPv4 range also matches the mapped IPv6
  // form.
  static Result<TrustedProxies> parse(const std::vector<std::string>& ranges);
  bool contains(std::string_view ip) const;  // "192.0.2.1", "::1", "unix"

 private:
  using Bytes16 = std::array<unsigned char, 16>;  // an IPv4 address in its mapped IPv6 form
  struct Range {
    Bytes16 address;
    unsigned prefix_bits;  // an IPv4 range's plus 96
  };

  static std::optional<Bytes16> parse_address(std::string_view ip);
  static Result<Range> parse_range(std::string_view text);

  std::vector<Range> ranges_;
  bool unix_ = false;
};

// Where a request came from, as the gateway knows it.
struct ForwardedFrom {
  std::string client_ip;  // "192.0.2.1", "::1", "unix"
  bool secure = false;
  bool trusted = false;  // the peer is one of TrustedProxies
};

struct ForwardRules {
  std::vector<Header> set;
  std::vector<std::string> remove;
};

// The fields for the upstream's request, in this order of events:
// 1. fields that Connection nominates, then the hop-by-hop fields themselves, are removed (RFC 9110
//    7.6.1), before anything is added, so that a client cannot remove what we set;
// 2. so are Content-Length, Expect, and every name with an underscore (X_Forwarded_Proto), which
//    some servers take for a hyphen;
// 3. X-Forwarded-For, -Proto, -Host and Forwarded: appended to what a trusted peer sent (-Proto and
//    -Host: kept), replaced otherwise; other X-Forwarded-* fields and X-Real-Ip pass from a trusted
//    peer only. A client on a unix socket has no address: it is "unknown" in Forwarded and adds
//    nothing to X-Forwarded-For. traceparent is kept, whoever sent it, if well-formed (W3C Trace
//    Context, version 00); else a new one is set, and tracestate goes;
// 4. the rules: remove, then set. They have no say in hop-by-hop fields and in what frames the
//    body, and cannot remove Host.
// Host is always there, once and first: the client's, or empty if an HTTP/1.0 client named none
// (RFC 9112 3.2). Everything else passes through byte for byte and in order; what is set here comes
// last. The caller adds what frames the body and, for an upgrade, Connection, Upgrade and the
// Sec-WebSocket fields: those are removed here too.
std::vector<Header> forwarded_headers(const Request& request, const ForwardedFrom& from,
                                      const ForwardRules& rules);

// The fields of an upstream's response for the client: without hop-by-hop and nominated fields, and
// without Content-Length, Transfer-Encoding and Trailer. Date stays.
std::vector<Header> response_headers(const ResponseHead& head);

// "GET /x HTTP/1.1" and the fields. Fails if a field, the method or the target could be read as
// something else (RFC 9110 5.5), unless there is one Host, and if more than one field frames the
// body: nothing that fails is ever sent.
Result<std::string> serialise_request(std::string_view method, std::string_view target,
                                      const std::vector<Header>& headers);

// "/v2/{room}/*" for a request that a route's pattern matched: {name} is the parameter as it stood
// in the path, "/*" at the end `rest`, with or without its slash; without a star nothing is
// appended. An empty template gives `path`. The query is the caller's.
std::string rewrite_path(std::string_view rewrite, std::string_view path, std::string_view rest,
                         const std::vector<std::pair<std::string, std::string>>& parameters);

}  // namespace sluice::http
