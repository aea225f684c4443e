// Connections on a worker: real sockets, bridges that the test plays, and the promises of bridge.h.
#include "worker.h"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/stream.h"
#include "support/websocket_peer.h"

using namespace sluice;
using namespace sluice::test;

namespace {

// What the bridges of a route do, and what they were told: "open /echo; text 'Hi'; close 1000 ''".
struct Script {
  std::function<void(WebSocket&, const UpgradeRequest&)> on_open =
      [](WebSocket& socket, const UpgradeRequest&) { socket.accept(); };
  std::function<void(WebSocket&, MessageType, Bytes)> on_message =
      [](WebSocket& socket, MessageType type, Bytes payload) { socket.send(type, payload); };
  std::function<void(WebSocket&)> on_close = [](WebSocket&) {};

  std::string told;
  int alive = 0;
  WebSocket* last = nullptr;  // of the bridge made last, while it lives

  void tell(const std::string& what) { told += (told.empty() ? "" : "; ") + what; }
};

class ScriptedBridge final : public Bridge {
 public:
  ScriptedBridge(Script& script, WebSocket& socket) : script_(script), socket_(socket) {
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
  WebSocket& socket_;
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

// A worker with the route /echo, and its clients.
class House {
 public:
  explicit House(const std::function<void(config::Config&)>& adjust = {}) {
    config.routes.emplace_back();
    config.routes[0].name = config.routes[0].path = "/echo";
    config.routes[0].allowed_origins = {"*"};
    config.log.access = false;
    shared.connections_max = 100;
    if (adjust) adjust(config);
    counters = std::make_unique<metrics::WorkerCounters>(1);
    worker = std::make_unique<Worker>(0, loop.loop, config, shared, *counters);
    auto route = std::make_unique<ServedRoute>(config.routes[0], 0);
    route->bridges = std::make_unique<ScriptedFactory>(script);
    route->open = &open;
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
    worker.reset();
    CHECK(loop.loop.close().has_value());
  }
  std::unique_ptr<ClientEnd> connect() {
    const auto [server, client] = tcp_pair();
    worker->post_connection(server, net::Endpoint(), nullptr);
    return std::make_unique<ClientEnd>(client);
  }
  void until(std::function<bool()> condition) { loop.run_until(std::move(condition)); }
  // The bytes that the client gets until the condition on them holds.
  std::string get(ClientEnd& client, const std::function<bool(const std::string&)>& enough) {
    std::string got;
    until([&] {
      char buffer[65536];
      const ssize_t count = ::recv(client.fd(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (count > 0) got.append(buffer, static_cast<std::size_t>(count));
      return enough(got) || count == 0;
    });
    return got;
  }
  std::string head(ClientEnd& client) {
    return get(client, [](const std::string& got) { return got.ends_with("\r\n\r\n"); });
  }

  std::uint64_t closed(metrics::Initiator initiator, metrics::CloseReason reason) const {
    return counters->routes[0]
        .connections_closed[static_cast<std::size_t>(initiator)][static_cast<std::size_t>(reason)]
        .get();
  }

  TestLoop loop{TestLoop::Look::timer};
  config::Config config;
  Shared shared;
  std::unique_ptr<metrics::WorkerCounters> counters;
  std::atomic<std::uint32_t> open{0};
  Script script;
  std::unique_ptr<Worker> worker;
  WebSocketPeer peer;
};

std::string upgrade(const std::string& more = "") {
  return "GET /echo HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\n"
         "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
         more + "\r\n";
}

}  // namespace

TEST_CASE("the opening handshake of RFC 6455 1.3, an echo and a clean close") {
  House house;
  const auto client = house.connect();
  client->send(upgrade());
  const std::string head = house.head(*client);
  CHECK(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
  CHECK(head.find("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") != std::string::npos);
  CHECK(house.open.load() == 1);
  client->send(house.peer.text("Hi"));
  CHECK(house.peer.read(house.get(*client, [](auto& got) { return got.size() == 4; })) ==
        "text 'Hi'");
  client->send(house.peer.close(1000, "bye"));
  CHECK(house.peer.read(house.get(*client, [](const std::string&) { return false; })) ==
        "close 1000 'bye'");
  CHECK(house.script.told == "open /echo; text 'Hi'; close 1000 'bye'");
  CHECK(house.closed(metrics::Initiator::client, metrics::CloseReason::normal) == 1);
}

TEST_CASE("the first frame may come with the request, whole or byte by byte") {
  for (const bool whole : {true, false}) {
    House house;
    const auto client = house.connect();
    const std::string bytes = upgrade() + house.peer.text("early");
    if (whole) {
      client->send(bytes);
    } else {
      for (const char byte : bytes) {
        client->send(std::string(1, byte));
        house.loop.run_for(0);
      }
    }
    house.until([&] { return house.script.told == "open /echo; text 'early'"; });
  }
}

TEST_CASE("a bridge may accept later; what the client sent meanwhile waits") {
  House house;
  house.script.on_open = [](WebSocket&, const UpgradeRequest&) {};
  const auto client = house.connect();
  client->send(upgrade() + house.peer.text("one") + house.peer.text("two"));
  house.until([&] { return house.script.last != nullptr; });
  house.loop.run_for(20);
  CHECK(house.script.told == "open /echo");
  CHECK(house.script.last->ready_state() == ReadyState::connecting);
  house.script.last->accept();
  CHECK(house.script.last->ready_state() == ReadyState::open);
  CHECK(house.script.told == "open /echo");  // nothing from inside the call
  house.until([&] { return house.script.told == "open /echo; text 'one'; text 'two'"; });
}

TEST_CASE("a bridge that rejects is told so by on_close, once, and the client has its status") {
  for (const bool later : {false, true}) {
    CAPTURE(later);
    House house;
    if (later) {
      house.script.on_open = [](WebSocket&, const UpgradeRequest&) {};
    } else {
      house.script.on_open = [](WebSocket& socket, const UpgradeRequest&) {
        socket.reject(403, "not you");
      };
    }
    const auto client = house.connect();
    client->send(upgrade());
    house.until([&] { return !house.script.told.empty(); });
    if (later) house.script.last->reject(403, "not you");
    const std::string answer = house.get(*client, [](const std::string&) { return false; });
    CHECK(answer.starts_with("HTTP/1.1 403 "));
    CHECK(house.script.told == "open /echo; close 1006 '' unclean");
    CHECK(house.open.load() == 0);
  }
}

TEST_CASE("a client that leaves before the bridge has decided is told by on_close") {
  House house;
  house.script.on_open = [](WebSocket&, const UpgradeRequest&) {};
  const auto client = house.connect();
  client->send(upgrade());
  house.until([&] { return house.script.last != nullptr; });
  client->close();
  house.until([&] { return house.script.alive == 0; });
  CHECK(house.script.told == "open /echo; close 1006 '' unclean");
}

TEST_CASE("a bridge that does not decide in time: 504") {
  House house([](config::Config& config) { config.requests.handshake_timeout_ms = 200; });
  house.script.on_open = [](WebSocket&, const UpgradeRequest&) {};
  const auto client = house.connect();
  client->send(upgrade());
  const std::string answer = house.get(*client, [](const std::string&) { return false; });
  CHECK(answer.starts_with("HTTP/1.1 504 "));
  CHECK(house.script.told == "open /echo; close 1006 '' unclean");
}

TEST_CASE("calls after the end, in on_close and later in CONNECTING, do nothing") {
  House house;
  house.script.on_close = [](WebSocket& socket) {
    socket.send(MessageType::text, as_bytes("late"));
    socket.accept();
    socket.reject(400, "late");
    socket.pause();
    socket.resume();
    (void)socket.close();
    socket.fail("late");
    CHECK(socket.buffered_amount() == 0);
  };
  const auto client = house.connect();
  client->send(upgrade() + house.peer.close(1000));
  house.until([&] { return house.script.alive == 0 && !house.script.told.empty(); });
  CHECK(house.script.told == "open /echo; close 1000 ''");
}

TEST_CASE("send() while CONNECTING is ignored, and close() says that it did nothing") {
  House house;
  house.script.on_open = [](WebSocket& socket, const UpgradeRequest&) {
    socket.send(MessageType::text, as_bytes("too early"));
    CHECK_FALSE(socket.close(1000));
    socket.accept();
    socket.send(MessageType::text, as_bytes("welcome"));
    socket.accept();  // a second time
  };
  const auto client = house.connect();
  client->send(upgrade());
  const std::string got =
      house.get(*client, [](const std::string& bytes) { return bytes.ends_with("welcome"); });
  const auto body = got.find("\r\n\r\n") + 4;
  CHECK(house.peer.read(got.substr(body)) == "text 'welcome'");
}

TEST_CASE("a bridge that fails closes its client with 1011, or refuses it with 500") {
  House open;
  open.script.on_message = [](WebSocket& socket, MessageType, Bytes) { socket.fail("bad day"); };
  auto client = open.connect();
  client->send(upgrade() + open.peer.text("go"));
  const std::string got =
      open.get(*client, [](const std::string& bytes) { return bytes.ends_with("plugin failed"); });
  CHECK(open.peer.read(got.substr(got.find("\r\n\r\n") + 4)) == "close 1011 'plugin failed'");

  House connecting;
  connecting.script.on_open = [](WebSocket& socket, const UpgradeRequest&) {
    socket.fail("bad day");
  };
  client = connecting.connect();
  client->send(upgrade());
  CHECK(connecting.get(*client, [](const std::string&) { return false; })
            .starts_with("HTTP/1.1 500 "));
}

TEST_CASE("drain(): every socket gets 1001, and the worker tells when the last has gone") {
  House house;
  std::vector<std::unique_ptr<ClientEnd>> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(house.connect());
    clients.back()->send(upgrade());
    (void)house.head(*clients.back());
  }
  auto idle = house.connect();  // has said nothing yet
  house.until([&] { return house.worker->load() == 6; });
  bool empty = false;
  house.worker->drain(10'000, [&] { empty = true; });
  for (const auto& client : clients) {
    WebSocketPeer peer;
    CHECK(peer.read(house.get(*client, [](auto& got) { return got.size() == 17; })) ==
          "close 1001 'shutting down'");
    CHECK_FALSE(empty);
    client->send(peer.close(1001));
    client->close();
  }
  idle->close();
  house.until([&] { return empty; });
  CHECK(house.closed(metrics::Initiator::gateway, metrics::CloseReason::drain) == 5);
}

TEST_CASE("drain(): who does not go is cut at the deadline, with a reset") {
  House house;
  const auto client = house.connect();
  client->send(upgrade());
  (void)house.head(*client);
  bool empty = false;
  house.worker->drain(100, [&] { empty = true; });
  house.until([&] { return empty; });
  CHECK(house.script.told == "open /echo; close 1006 '' unclean");
  CHECK(house.closed(metrics::Initiator::gateway, metrics::CloseReason::drain) == 1);
  (void)client->read(100);
  CHECK(client->error == ECONNRESET);
}

TEST_CASE("load() counts connections from the moment they are posted to the moment they are gone") {
  House house;
  CHECK(house.worker->load() == 0);
  auto client = house.connect();
  CHECK(house.worker->load() == 1);
  house.loop.run_for(20);
  CHECK(house.worker->load() == 1);
  client->close();
  house.until([&] { return house.worker->load() == 0; });
}
