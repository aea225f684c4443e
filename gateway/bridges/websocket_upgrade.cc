#include "bridges/websocket_upgrade.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "base/crypto.h"
#include "base/field.h"
#include "http/forward.h"
#include "ws/handshake.h"

namespace sluice::bridges {
namespace {

// Content fields describe a body, which a 101 has not; the Date of the client's 101 is our own.
bool is_for_client(const http::Header& header) {
  const std::string name = to_lower(header.name);
  return !name.starts_with("sec-websocket-") && !name.starts_with("content-") && name != "date";
}

bool is_offered(std::string_view protocol, std::string_view offered) {
  const auto protocols = split_list(offered);
  return std::ranges::find(protocols, protocol) != protocols.end();
}

}  // namespace

std::string fresh_key() {
  std::array<std::uint8_t, 16> bytes;
  random_bytes(bytes);
  return base64(bytes);
}

std::string protocol_offer(const http::Request& client) {
  return client.header("Sec-WebSocket-Protocol").value_or("");
}

void add_upgrade_fields(std::string_view key, std::string_view offered, std::string_view extensions,
                        std::vector<http::Header>& headers) {
  headers.push_back({"Connection", "Upgrade"});
  headers.push_back({"Upgrade", "websocket"});
  headers.push_back({"Sec-WebSocket-Version", "13"});
  headers.push_back({"Sec-WebSocket-Key", std::string(key)});
  if (!offered.empty()) headers.push_back({"Sec-WebSocket-Protocol", std::string(offered)});
  if (!extensions.empty()) {
    headers.push_back({"Sec-WebSocket-Extensions", std::string(extensions)});
  }
}

// RFC 6455 4.1, what a client checks of the server's response. Two fields where one is meant are
// two opinions, and somebody else may have followed the other one.
Result<Switched> verify_switch(const http::ResponseHead& head, std::string_view key,
                               std::string_view offered, std::string_view extensions) {
  if (head.version_minor < 1) return fail("a 101 of HTTP/1.0");
  if (head.count("Upgrade") != 1 ||
      !equals_ignoring_case(head.header("Upgrade").value_or(""), "websocket")) {
    return fail("Upgrade is not websocket");
  }
  if (!head.has_token("Connection", "upgrade")) return fail("Connection has no token upgrade");
  if (head.count("Sec-WebSocket-Accept") != 1) {
    return fail("there is not exactly one Sec-WebSocket-Accept");
  }
  if (head.header("Sec-WebSocket-Accept") != ws::accept_key(key)) {
    return fail("Sec-WebSocket-Accept is wrong");
  }
  if (head.count("Sec-WebSocket-Extensions") != 0 && extensions.empty()) {
    return fail("an extension was not offered");
  }
  if (head.count("Sec-WebSocket-Protocol") > 1) return fail("there are two subprotocols");

  Switched switched;
  if (auto protocol = head.header("Sec-WebSocket-Protocol")) {
    if (!is_offered(*protocol, offered)) return fail("the subprotocol was not offered");
    switched.protocol = *std::move(protocol);
  }
  switched.extensions = head.header("Sec-WebSocket-Extensions").value_or("");
  switched.headers = http::response_headers(head);
  std::erase_if(switched.headers,
                [](const http::Header& header) { return !is_for_client(header); });
  return switched;
}

}  // namespace sluice::bridges
