#include "http/upgrade.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/field.h"

namespace sluice::http {
namespace {

using Kind = Refusal::Kind;

constexpr std::size_t protocols_max = 32;

Refusal bad_request(std::string message) {
  return {Kind::bad_request, 400, std::move(message), {}};
}

bool is_base64(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+' ||
         c == '/';
}

// RFC 6455 4.2.1 (5): base64 that decodes to 16 bytes. The unused bits of the last character are
// not looked at: RFC 6455's own example in 4.1 has some set.
bool is_key(std::string_view text) {
  if (text.size() != 24 || !text.ends_with("==")) return false;
  text.remove_suffix(2);
  return std::all_of(text.begin(), text.end(), is_base64);
}

// Whether this is a GET for a WebSocket at all.
std::optional<Refusal> check_attempt(const Request& request) {
  if (!is_upgrade_attempt(request)) {
    // RFC 9110 15.5.22: 426 names the protocol in Upgrade.
    return Refusal{
        Kind::not_websocket, 426, "this is a WebSocket endpoint", {{"Upgrade", "websocket"}}};
  }
  // RFC 6455 4.2.1 (1): the method is GET.
  if (request.method != "GET") {
    return Refusal{Kind::method, 405, "a WebSocket is opened with GET", {{"Allow", "GET"}}};
  }
  return {};
}

std::optional<Refusal> check_fields(const Request& request) {
  if (request.has_body) return bad_request("an opening handshake has no body");
  // RFC 6455 4.2.1 (4): Connection contains the token "Upgrade".
  if (!request.has_token("connection", "upgrade")) {
    return bad_request("Connection does not contain Upgrade");
  }
  // RFC 6455 4.2.1 (6) and 4.4: any other version is answered with the one that is spoken.
  if (request.header("sec-websocket-version") != "13") {
    return Refusal{Kind::version,
                   426,
                   "only version 13 of the WebSocket protocol is spoken here",
                   {{"Sec-WebSocket-Version", "13"}, {"Upgrade", "websocket"}}};
  }
  if (!is_key(request.header("sec-websocket-key").value_or(""))) {
    return bad_request("Sec-WebSocket-Key is not 16 bytes in base64");
  }
  return {};
}

// RFC 6455 4.1 (10): the elements are unique tokens, one at least.
tl::expected<std::vector<std::string>, Refusal> parse_protocols(const Request& request) {
  std::vector<std::string> protocols;
  const std::optional<std::string> list = request.header("sec-websocket-protocol");
  if (!list) return protocols;
  for (const std::string_view name : split_list(*list)) {
    if (protocols.size() == protocols_max)
      return tl::unexpected(bad_request("too many subprotocols"));
    if (!is_token(name)) return tl::unexpected(bad_request("a subprotocol's name is not a token"));
    if (std::find(protocols.begin(), protocols.end(), name) != protocols.end()) {
      return tl::unexpected(bad_request("a subprotocol is offered twice"));
    }
    protocols.emplace_back(name);
  }
  if (protocols.empty()) return tl::unexpected(bad_request("Sec-WebSocket-Protocol is empty"));
  return protocols;
}

}  // namespace

bool is_upgrade_attempt(const Request& request) {
  // RFC 9110 7.8: a server ignores Upgrade in an HTTP/1.0 request.
  return request.version_minor >= 1 &&
         equals_ignoring_case(request.header("upgrade").value_or(""), "websocket");
}

tl::expected<Upgrade, Refusal> validate_upgrade(const Request& request) {
  if (auto refusal = check_attempt(request)) return tl::unexpected(*std::move(refusal));
  if (auto refusal = check_fields(request)) return tl::unexpected(*std::move(refusal));
  auto protocols = parse_protocols(request);
  if (!protocols) return tl::unexpected(std::move(protocols).error());
  return Upgrade{*request.header("sec-websocket-key"), *std::move(protocols)};
}

}  // namespace sluice::http
