#include "bridges/webhook_request.h"

#include <algorithm>
#include <array>

#include "base/crypto.h"
#include "base/field.h"
#include "bridges/upstream_request.h"
#include "config/webhook_fields.h"

namespace sluice::bridges {
namespace {

constexpr std::size_t refusal_bytes_max = 100'000;

constexpr std::array<std::string_view, 3> for_opening = {"set-cookie", "x-request-id",
                                                         "server-timing"};
constexpr std::array<std::string_view, 9> for_refusal = {
    "cache-control", "content-language", "content-type",    "location", "retry-after", "set-cookie",
    "vary",          "x-request-id",     "www-authenticate"};

std::vector<http::Header> select(const std::vector<http::Header>& headers,
                                 std::span<const std::string_view> names) {
  std::vector<http::Header> selected;
  std::ranges::copy_if(headers, std::back_inserter(selected), [&](const http::Header& header) {
    return std::ranges::find(names, to_lower(header.name)) != names.end();
  });
  return selected;
}

}  // namespace

upstreams::HttpRequest webhook_request(const HttpRoute& route, const ClientRequest& handshake,
                                       std::span<const std::string_view> handshake_fields,
                                       std::string_view connection_id) {
  upstreams::HttpRequest request = upstream_request(route, handshake);
  std::erase_if(request.headers,
                [](const http::Header& field) { return config::is_webhook_field(field.name); });
  for (const std::string_view name : handshake_fields) {
    if (auto value = handshake.request.header(name)) {
      request.headers.push_back({std::string(name), std::move(*value)});
    }
  }
  request.headers.push_back({"Connection-Id", std::string(connection_id)});
  request.method = "POST";
  return request;
}

std::string make_connection_id() {
  std::array<std::uint8_t, 16> bytes{};
  random_bytes(bytes);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0F) | 0x40);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3F) | 0x80);
  std::string id;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) id += '-';
    id += "0123456789abcdef"[bytes[i] >> 4];
    id += "0123456789abcdef"[bytes[i] & 0x0F];
  }
  return id;
}

std::vector<std::string> offered_protocols(const http::Request& handshake) {
  std::vector<std::string> offered;
  const std::string list = handshake.header("Sec-WebSocket-Protocol").value_or("");
  for (const std::string_view protocol : split_list(list)) offered.emplace_back(protocol);
  return offered;
}

std::string chosen_protocol(const http::ResponseHead& head, const config::Route& route,
                            const std::vector<std::string>& offered) {
  if (auto chosen = head.header("Sec-WebSocket-Protocol"); chosen && !chosen->empty()) {
    return *chosen;
  }
  for (const std::string& protocol : route.subprotocols) {
    if (std::ranges::find(offered, protocol) != offered.end()) return protocol;
  }
  return {};
}

std::vector<http::Header> opening_headers(const http::ResponseHead& head) {
  return select(head.headers, for_opening);
}

http::Response relayed_refusal(const http::ResponseHead& head, const std::string& body) {
  http::Response response;
  response.status = head.status;
  response.headers = select(head.headers, for_refusal);
  if (body.size() <= refusal_bytes_max) response.body = body;
  return response;
}

}  // namespace sluice::bridges
