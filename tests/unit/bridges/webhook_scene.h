// A webhook bridge between a client that is set by hand and a backend that the test plays over real
// sockets, request by request.
#pragma once

#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../upstreams/http_scene.h"
#include "base/field.h"
#include "bridges/webhook_bridge.h"
#include "support/fake_websocket.h"

namespace sluice::bridges {

// A request as the backend got it.
struct WebhookRequest {
  test::Peer* peer;
  std::string line;
  std::vector<http::Header> headers;
  std::string body;

  // The value; "none" if the field is absent, "many" if it came more than once.
  std::string field(std::string_view name) const {
    std::string value = "none";
    for (const http::Header& header : headers) {
      if (!equals_ignoring_case(header.name, name)) continue;
      value = value == "none" ? header.value : "many";
    }
    return value;
  }
};

inline constexpr std::string_view events_type = "Content-Type: application/websocket-events\r\n";

struct WebhookScene : test::HttpScene {
  explicit WebhookScene(config::WebhookTarget target = {}) {
    route.name = "hook";
    route.target = std::move(target);
    server.on_data = [this](test::Peer& peer) { read(peer); };
    socket.http_request.method = "GET";
    socket.http_request.target = socket.http_request.path = "/chat";
    socket.http_request.host = socket.http_request.authority = "example.org";
    socket.http_request.headers = {{"Host", "example.org"},
                                   {"Upgrade", "websocket"},
                                   {"Connection", "Upgrade"},
                                   {"Sec-WebSocket-Version", "13"},
                                   {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};
  }
  ~WebhookScene() {
    bridge.reset();
    factory.reset();
    end_turn();
  }

  // ---- The client
  void open() {
    factory = std::make_unique<WebhookBridgeFactory>(
        HttpRoute{context, pool, upstream, route, proxies, connect_timeout_ms}, channels);
    bridge = factory->create(socket);
    bridge->on_open(request_);
    end_turn();
  }
  void say(std::string_view text, MessageType type = MessageType::text) {
    bridge->on_message(type, as_bytes(text));
    end_turn();
  }
  // The client has gone: as a browser would be told.
  void leave(std::uint16_t code, std::string_view reason = {}, bool clean = true) {
    socket.state = ReadyState::closed;
    bridge->on_close({code, reason, clean, metrics::Initiator::client});
    if (bridge->outlives_socket()) {
      bridge->set_keeper(keeper);
    } else {
      done = true;
    }
    end_turn();
  }
  void vanish() { leave(1006, {}, false); }
  // What was sent since the last time: "text 'a'; binary 'b'".
  std::string sent() {
    std::string told;
    for (const auto& message : std::exchange(socket.sent, {})) {
      if (!told.empty()) told += "; ";
      told += message.type == MessageType::text ? "text '" : "binary '";
      told += message.payload + "'";
    }
    return told;
  }

  // ---- The backend
  // One connection is tried for a request, so that tries can be counted.
  void one_attempt() {
    config.connect_attempts = 1;
    make_upstream();
  }
  // The next request, once it has come whole.
  WebhookRequest next() {
    loop.run_until([this] { return !requests.empty(); });
    WebhookRequest request = std::move(requests.front());
    requests.pop_front();
    last = request.peer;
    return request;
  }
  // Answers the last one.
  void answer(std::string_view body, std::string_view fields = {}) {
    answer_whole(test::ok(body, std::string(events_type) + std::string(fields)));
  }
  // Until the bridge has dealt with it.
  void answer_whole(std::string_view response) {
    last->send(response);
    settle();
  }
  void answer_status(int status, std::string_view body = {}, std::string_view fields = {}) {
    answer_whole("HTTP/1.1 " + std::to_string(status) +
                 " x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
                 std::string(fields) + "\r\n" + std::string(body));
  }
  // Lets everything happen that happens without anybody's doing.
  void settle() { loop.run_for(20); }

  // Opened, with a first answer of these fields.
  void open_with(std::string_view fields = {}) {
    open();
    next();
    answer("OPEN\r\n", fields);
    REQUIRE(socket.state == ReadyState::open);
  }

  config::Route route;
  std::uint64_t connect_timeout_ms = 9'500;
  http::TrustedProxies proxies;
  Channels channels;
  test::FakeWebSocket socket;
  std::unique_ptr<WebhookBridgeFactory> factory;
  std::unique_ptr<Bridge> bridge;
  std::deque<WebhookRequest> requests;
  test::Peer* last = nullptr;
  bool done = false;  // the bridge has ended, or did not outlive its socket

 private:
  struct Keeper final : Bridge::Keeper {
    explicit Keeper(bool& done_now) : done(done_now) {}
    void on_bridge_done(Bridge&) override { done = true; }
    bool& done;
  };
  Keeper keeper{done};

  void read(test::Peer& peer) {
    if (!peer.has_head()) return;
    WebhookRequest request{&peer, {}, {}, {}};
    std::size_t length = 0;
    std::string_view rest =
        std::string_view(peer.received).substr(0, peer.received.find("\r\n\r\n"));
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find("\r\n"));
      rest.remove_prefix(std::min(rest.size(), line.size() + 2));
      if (request.line.empty()) {
        request.line = line;
        continue;
      }
      const std::size_t colon = line.find(':');
      request.headers.push_back(
          {std::string(line.substr(0, colon)), std::string(trim(line.substr(colon + 1)))});
    }
    length = std::stoul(request.field("Content-Length"));
    request.body = peer.body();
    if (request.body.size() < length) return;
    CHECK(request.body.size() == length);
    peer.received.clear();
    requests.push_back(std::move(request));
  }

  test::FakeRequest request_;
};

}  // namespace sluice::bridges
