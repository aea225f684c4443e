// A worker with a route whose bridges and relays the test plays, and its clients: real sockets.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "http/handler.h"
#include "relay.h"
#include "support/stream.h"
#include "support/websocket_peer.h"
#include "worker.h"

namespace sluice::test {

// What was told, in short lines: "open /echo; text 'Hi'; close 1000 ''".
struct Told {
  void tell(const std::string& what) { told += (told.empty() ? "" : "; ") + what; }
  bool has(std::string_view what) const { return told.find(what) != std::string::npos; }
  std::string told;
};

// What the relays of a route do, and what they were told.
struct RelayScript : Told {
  std::function<void(RelayClient&, const ClientRequest&)> on_request = [](RelayClient&,
                                                                          const ClientRequest&) {};
  std::function<void(RelayClient&)> on_body = [](RelayClient&) {};
  std::function<void(RelayClient&)> on_body_end = [](RelayClient&) {};
  std::function<void(RelayClient&)> on_drain = [](RelayClient&) {};

  std::uint64_t held_bytes = 0;
  int alive = 0;
  RelayClient* last = nullptr;  // of the relay that began last, until it is gone
};

class ScriptedRelay final : public Relay {
 public:
  explicit ScriptedRelay(RelayScript& script) : script_(script) { ++script_.alive; }
  ~ScriptedRelay() override {
    CHECK(client_ == nullptr);
    CHECK_FALSE(inside_);
    --script_.alive;
  }
  void on_request(const ClientRequest& request, RelayClient& client) override {
    client_ = script_.last = &client;
    event(request.request.method + " " + request.request.path,
          [&] { script_.on_request(client, request); });
  }
  void on_body(Bytes piece) override {
    event("body " + shown(piece), [&] { script_.on_body(*client_); });
  }
  void on_body_end(const std::vector<http::Header>&) override {
    event("end", [&] { script_.on_body_end(*client_); });
  }
  void on_drain() override {
    event("drain", [&] { script_.on_drain(*client_); });
  }
  void on_gone() override {
    event("gone", [] {});
    client_ = script_.last = nullptr;
  }
  std::uint64_t held_bytes() const override { return script_.held_bytes; }

 private:
  // No event comes from inside of another, and none after on_gone.
  template <typename Do>
  void event(const std::string& what, Do act) {
    CHECK_FALSE(inside_);
    CHECK(client_ != nullptr);
    inside_ = true;
    script_.tell(what);
    act();
    inside_ = false;
  }
  RelayScript& script_;
  RelayClient* client_ = nullptr;
  bool inside_ = false;
};

class ScriptedRelayFactory final : public RelayFactory {
 public:
  explicit ScriptedRelayFactory(RelayScript& script) : script_(script) {}
  std::unique_ptr<Relay> create() override { return std::make_unique<ScriptedRelay>(script_); }

 private:
  RelayScript& script_;
};

// What the bridges of a route do, and what they were told.
struct Script : Told {
  std::function<void(ClientSocket&, const UpgradeRequest&)> on_open =
      [](ClientSocket& socket, const UpgradeRequest&) { socket.accept(); };
  std::function<void(ClientSocket&, MessageType, Bytes)> on_message =
      [](ClientSocket& socket, MessageType type, Bytes payload) { socket.send(type, payload); };
  std::function<void(ClientSocket&)> on_close = [](ClientSocket&) {};
  bool outlives = false;   // its socket
  std::uint64_t held = 0;  // bytes then

  int alive = 0;
  ClientSocket* last = nullptr;  // of the bridge made last, while it lives
  std::function<void()> on_kept;
  std::function<void()> done;  // tells the keeper of the bridge that was kept last
};

class ScriptedBridge final : public Bridge {
 public:
  ScriptedBridge(Script& script, ClientSocket& socket) : script_(script), socket_(socket) {
    ++script_.alive;
    script_.last = &socket;
  }
  ~ScriptedBridge() override {
    CHECK(closed_);
    CHECK_FALSE(inside_);
    --script_.alive;
    script_.last = nullptr;
  }
  void on_open(const UpgradeRequest& request) override {
    event("open " + std::string(request.path()), [&] { script_.on_open(socket_, request); });
  }
  void on_message(MessageType type, Bytes payload) override {
    CHECK(socket_.ready_state() == ReadyState::open);
    event(shown(type, payload), [&] { script_.on_message(socket_, type, payload); });
  }
  // Only on a route that streams.
  bool on_piece(const MessagePiece& piece) override {
    event("piece " + shown(piece.payload), [] {});
    return true;
  }
  void on_drain() override {
    event("drain", [] {});
  }
  void on_close(const CloseEvent& close) override {
    CHECK(socket_.ready_state() == ReadyState::closed);
    event("close " + std::to_string(close.code) + " '" + std::string(close.reason) + "'" +
              (close.was_clean ? "" : " unclean"),
          [&] { script_.on_close(socket_); });
    closed_ = true;
  }
  bool outlives_socket() const override { return script_.outlives; }
  std::uint64_t held_bytes() const override { return script_.held; }
  void set_keeper(Keeper& keeper) override {
    script_.tell("kept");
    script_.done = [this, &keeper] { keeper.on_bridge_done(*this); };
    if (script_.on_kept) script_.on_kept();
  }
  void cut() override { script_.tell("cut"); }

 private:
  // No event comes from inside of another, and none after on_close.
  template <typename Do>
  void event(const std::string& what, Do act) {
    CHECK_FALSE(inside_);
    CHECK_FALSE(closed_);
    inside_ = true;
    script_.tell(what);
    act();
    inside_ = false;
  }
  Script& script_;
  ClientSocket& socket_;
  bool inside_ = false;
  bool closed_ = false;
};

class ScriptedFactory final : public BridgeFactory {
 public:
  explicit ScriptedFactory(Script& script) : script_(script) {}
  std::unique_ptr<Bridge> create(ClientSocket& socket) override {
    return std::make_unique<ScriptedBridge>(script_, socket);
  }

 private:
  Script& script_;
};

// Answers every request with as many bytes of the last letter of its path.
class LetterHandler final : public http::Handler {
 public:
  explicit LetterHandler(std::size_t size) : size_(size) {}
  http::StaticFiles::Reply respond(const http::Request& request, std::string_view) const override {
    http::StaticFiles::Reply reply;
    reply.head.body.assign(size_, request.path.back());
    return reply;
  }

 private:
  const std::size_t size_;
};

// A worker with the routes /echo, a bridge and a relay, and /letters/*, and its clients.
class House {
 public:
  static constexpr std::size_t letters = 300'000;  // more than waits for a client before it reads

  explicit House(const std::function<void(config::Config&)>& adjust = {}) {
    config.routes.resize(2);
    config.routes[0].name = config.routes[0].path = "/echo";
    config.routes[0].allowed_origins = {"*"};
    config.routes[1].name = config.routes[1].path = "/letters/*";
    config.log.access = false;
    shared.connections_max = 100;
    if (adjust) adjust(config);
    counters = std::make_unique<metrics::WorkerCounters>(2);
    worker = std::make_unique<Worker>(0, loop.loop, config, shared, *counters);
    auto route = std::make_unique<ServedRoute>(config.routes[0], 0);
    route->bridges = std::make_unique<ScriptedFactory>(script);
    route->relays = std::make_unique<ScriptedRelayFactory>(relay);
    route->open = &open;
    worker->routes().add(std::move(route));
    route = std::make_unique<ServedRoute>(config.routes[1], 1);
    route->http = std::make_shared<LetterHandler>(letters);
    worker->routes().add(std::move(route));
    // The worker has the loop's hook: conditions are looked at by a timer.
  }
  ~House() {
    bool empty = false;
    worker->drain(0, [&] { empty = true; });
    loop.run_until([&] { return empty; });
    CHECK(open.load() == 0);
    CHECK(script.alive == 0);
    CHECK(shared.connections.load() == 0);
    std::size_t live = 0;
    counters->connections.for_each([&](const metrics::ConnectionSlot&) { ++live; });
    CHECK(live == 0);
    for (const auto& route : counters->routes) {
      CHECK(route.connections_active[0].get() + route.connections_active[1].get() == 0);
    }
    worker.reset();
    CHECK(relay.alive == 0);
    CHECK(loop.loop.close().has_value());
  }
  House(const House&) = delete;
  House& operator=(const House&) = delete;

  std::unique_ptr<ClientEnd> connect(const net::TlsContext* tls = nullptr) {
    return connect(net::Endpoint(), tls, Admission::uncounted);
  }
  // Admission::counted: the address has entered among shared.clients before.
  std::unique_ptr<ClientEnd> connect(const net::Endpoint& address, const net::TlsContext* tls,
                                     Admission admission) {
    const auto [server, client] = tcp_pair();
    worker->add(server, address, tls, admission);
    return std::make_unique<ClientEnd>(client);
  }
  void until(std::function<bool()> condition) { loop.run_until(std::move(condition)); }
  // Both in one turn: `event` runs on the loop first, then what `client_does` comes to the sockets.
  void in_one_turn(const std::function<void()>& event, const std::function<void()>& client_does) {
    bool done = false;
    uv::Timer timer(loop.loop, [&] {
      loop.loop.post([&] {
        event();
        done = true;
      });
      client_does();
    });
    timer.start(0);
    until([&] { return done; });
  }
  // The other way round: the connection hears of its client first.
  void in_one_turn_behind(const std::function<void()>& client_does,
                          const std::function<void()>& event) {
    bool begun = false;
    bool done = false;
    const auto hook = loop.loop.at_turn_end([&] {
      if (std::exchange(begun, true)) return;
      client_does();
      loop.loop.post([&] {
        event();
        done = true;
      });
    });
    until([&] { return done; });
    loop.loop.forget(hook);
  }
  // The bytes that the client gets until the condition on them holds.
  std::string get(ClientEnd& client, const std::function<bool(const std::string&)>& enough) {
    std::string got;
    until([&] {
      char buffer[65536];
      const ssize_t count = ::recv(client.fd(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (count > 0) got.append(buffer, static_cast<std::size_t>(count));
      client.error = count < 0 && errno != EAGAIN ? errno : 0;
      return enough(got) || count == 0 || client.error != 0;
    });
    return got;
  }
  std::string head(ClientEnd& client) {
    return get(client, [](const std::string& got) { return got.ends_with("\r\n\r\n"); });
  }
  std::string all(ClientEnd& client) {
    return get(client, [](const std::string&) { return false; });
  }
  void until_told(const Told& told, const std::string& what) {
    until([&] { return told.told == what; });
  }

  std::uint64_t closed(metrics::Initiator initiator, metrics::CloseReason reason) const {
    return counters->routes[0]
        .connections_closed[static_cast<std::size_t>(initiator)][static_cast<std::size_t>(reason)]
        .get();
  }
  std::uint64_t handshakes(metrics::HandshakeResult result) const {
    return counters->routes[0].handshakes[static_cast<std::size_t>(result)].get();
  }

  TestLoop loop{TestLoop::Look::timer};
  config::Config config;
  Shared shared;
  std::unique_ptr<metrics::WorkerCounters> counters;
  std::atomic<std::uint32_t> open{0};
  Script script;
  RelayScript relay;
  std::unique_ptr<Worker> worker;
  WebSocketPeer peer;
};

inline std::string upgrade(const std::string& more = "") {
  return "GET /echo HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\n"
         "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
         more + "\r\n";
}

inline std::string plain(const std::string& path = "/echo", const std::string& more = "",
                         const std::string& method = "GET") {
  return method + " " + path + " HTTP/1.1\r\nHost: example.org\r\n" + more + "\r\n";
}

inline std::string post(const std::string& body, std::size_t length) {
  return plain("/echo", "Content-Length: " + std::to_string(length) + "\r\n", "POST") + body;
}
inline std::string post(const std::string& body) {
  return post(body, body.size());
}

// A whole answer with this body.
inline void answer(RelayClient& client, std::string_view body, int status = 200) {
  http::Response head;
  head.status = status;
  head.content_length = body.size();
  client.respond(head);
  client.send_body(as_bytes(body));
  client.end_response();
}

}  // namespace sluice::test
