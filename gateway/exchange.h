// Exchange: the request that a connection is reading or answering, and what belongs to it. Gone
// when the connection has become a WebSocket, so that an idle one holds nothing of HTTP.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/request_parser.h"
#include "http/static_files.h"
#include "http/upgrade.h"
#include "relay_session.h"
#include "websocket.h"
#include "ws/extensions.h"

namespace sluice {

struct Exchange final : UpgradeRequest {
  explicit Exchange(const http::ParserLimits& limits) : parser(limits) {}

  std::string_view path() const override { return request().path; }
  std::string_view query() const override { return request().query; }
  std::string_view host() const override { return request().host; }
  std::string_view origin() const override { return header("Origin"); }
  std::string_view client_address() const override { return client; }
  std::string_view route() const override { return route_name; }
  std::string_view header(std::string_view name) const override {
    auto value = request().header(name);
    return value ? handed_out.emplace_back(std::move(*value)) : std::string_view();
  }
  std::string_view parameter(std::string_view name) const override {
    for (const auto& [key, value] : parameters) {
      if (key == name) return value;
    }
    return {};
  }
  std::string_view offered_protocol(std::size_t index) const override {
    if (index >= upgrade.offered_protocols.size()) return {};
    return upgrade.offered_protocols[index];
  }

  const http::Request& request() const { return parser.request(); }
  bool offers(std::string_view protocol) const {
    return std::ranges::find(upgrade.offered_protocols, protocol) !=
           upgrade.offered_protocols.end();
  }

  http::RequestParser parser;
  std::uint64_t started_ns = 0;    // of the request's first byte
  std::vector<std::uint8_t> held;  // received, and not looked at before the answer has been sent
  std::uint32_t moved_bytes = 0;   // of a relay's, when its client last made progress; modulo 2^32
  std::uint64_t acknowledged_bytes = 0;  // when a client that reads slowly was last asked
  std::uint64_t user_timeout_ms = 0;     // keepalive.tcp_user_timeout, as the transport has it
  bool close_after = false;              // this is the connection's last request
  bool kept = false;                     // it was not its first
  bool paused = false;                   // the bridge will not read what comes behind its accept()
  std::optional<http::FileBody> body;
  std::unique_ptr<RelaySession> relay;  // while a relay answers the request

  http::Upgrade upgrade;
  std::vector<ws::Extension> extensions;  // that the client offers
  std::string_view route_name;
  std::string_view chosen_protocol;  // by the route
  std::string client;
  std::string upstream;  // that answered, and which of its endpoints; for the log
  std::string endpoint;
  std::vector<std::pair<std::string, std::string>> parameters;      // decoded
  std::vector<std::pair<std::string, std::string>> raw_parameters;  // as they stand in the path
  mutable std::deque<std::string> handed_out;                       // the values of header()
};

}  // namespace sluice
