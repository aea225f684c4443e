// Connections on a worker: real sockets, bridges that the test plays, and the promises of bridge.h.
#include "house.h"

using namespace sluice;
using namespace sluice::test;

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

TEST_CASE("drain() waits for a connection that is still under way to the worker") {
  House house;
  const auto client = house.connect();
  bool empty = false;
  house.worker->drain(10'000, [&] { empty = true; });
  CHECK_FALSE(empty);
  CHECK(house.all(*client).empty());
  client->close();
  house.until([&] { return empty; });
  CHECK(house.worker->load() == 0);
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

// ---- Bridges that outlive their sockets

TEST_CASE("a bridge that still has something to deliver is kept until it says that it is done") {
  House house;
  house.script.outlives = true;
  const auto client = house.connect();
  client->send(upgrade() + house.peer.close(1000));
  house.until_told(house.script, "open /echo; close 1000 ''; kept");
  CHECK(house.worker->load() == 1);  // it counts in the place of its connection
  client->close();
  house.loop.run_for(20);
  CHECK(house.worker->load() == 1);
  CHECK(house.script.alive == 1);
  CHECK(house.open.load() == 1);
  CHECK(house.shared.connections.load() == 1);
  house.script.done();
  CHECK(house.script.alive == 1);  // nobody is destroyed in his own call
  house.script.done();             // a second time
  house.until([&] { return house.script.alive == 0; });
  CHECK(house.worker->load() == 0);
  CHECK(house.open.load() == 0);
  CHECK(house.shared.connections.load() == 0);
}

TEST_CASE("a bridge that is kept counts for its client's address, as what the client was") {
  for (const bool opened : {true, false}) {
    CAPTURE(opened);
    ClientCounts counts({.connections_max = 2, .handshakes_max = 1});
    House house;
    house.shared.clients = &counts;
    house.script.outlives = true;
    if (!opened) house.script.on_open = [](WebSocket&, const UpgradeRequest&) {};
    sockaddr_storage loopback{};
    loopback.ss_family = AF_INET;
    const net::Endpoint address(loopback);
    (void)counts.enter(address);
    const auto client = house.connect(address, nullptr, Admission::counted);
    client->send(upgrade());
    house.until([&] { return house.script.last != nullptr; });
    client->close();
    house.until_told(house.script, "open /echo; close 1006 '' unclean; kept");
    house.loop.run_for(20);
    CHECK(counts.clients() == 1);
    CHECK((counts.enter(address) == ClientCounts::Verdict::welcome) == opened);
    if (opened) counts.leave(address, false);
    house.script.done();
    house.until([&] { return house.script.alive == 0; });
    CHECK(counts.clients() == 0);
  }
}

TEST_CASE("a bridge that ends while its keeper takes it is done, too") {
  House house;
  house.script.outlives = true;
  house.script.on_kept = [&] { house.script.done(); };
  const auto client = house.connect();
  client->send(upgrade() + house.peer.close(1000));
  client->shutdown();
  house.until([&] { return house.script.told.ends_with("kept") && house.script.alive == 0; });
  house.until([&] { return house.worker->load() == 0; });
}

TEST_CASE("drain() waits for the bridges that are kept, and cut() ends them") {
  for (const bool in_time : {true, false}) {
    CAPTURE(in_time);
    House house;
    house.script.outlives = true;
    const auto client = house.connect();
    client->send(upgrade() + house.peer.close(1000));
    client->shutdown();
    house.until_told(house.script, "open /echo; close 1000 ''; kept");
    house.until([&] { return house.worker->load() == 1; });
    bool empty = false;
    house.worker->drain(1'000'000, [&] { empty = true; });
    house.loop.run_for(20);
    CHECK_FALSE(empty);
    if (in_time) {
      house.script.done();
    } else {
      house.worker->cut();
    }
    house.until([&] { return empty; });
    CHECK(house.script.told ==
          std::string("open /echo; close 1000 ''; kept") + (in_time ? "" : "; cut"));
  }
}

TEST_CASE("a bridge that is kept and holds much is evicted, and counts no more") {
  House house;
  house.script.outlives = true;
  const auto client = house.connect();
  client->send(upgrade() + house.peer.close(1000));
  client->shutdown();
  house.until_told(house.script, "open /echo; close 1000 ''; kept");
  house.worker->evict(1);
  CHECK(house.script.alive == 1);
  house.script.held = 1'000'000;
  house.worker->evict(1);
  house.until([&] { return house.script.alive == 0; });
  CHECK(house.script.told == "open /echo; close 1000 ''; kept; cut");
  CHECK(house.counters->evicted.get() == 1);
  CHECK(house.worker->load() == 0);
}

TEST_CASE("a bridge whose socket is cut has no time left to deliver anything") {
  House house;
  house.script.outlives = true;
  const auto client = house.connect();
  client->send(upgrade());
  (void)house.head(*client);
  bool empty = false;
  house.worker->drain(50, [&] { empty = true; });
  house.until([&] { return empty; });
  CHECK(house.script.alive == 0);
  CHECK(house.script.told == "open /echo; close 1006 '' unclean; cut");
}

TEST_CASE("deadlines go on for a bridge that is kept, when there is no connection any more") {
  House house;
  house.script.outlives = true;
  const auto client = house.connect();
  client->send(upgrade() + house.peer.close(1000));
  client->shutdown();
  house.until_told(house.script, "open /echo; close 1000 ''; kept");
  house.until([&] { return house.worker->load() == 1; });
  house.loop.run_for(3 * TimerWheel::tick_ms);  // with nothing to wait for
  struct Once final : TimerWheel::Entry {
    void on_deadline() override { fired = true; }
    bool fired = false;
  } deadline;
  house.worker->wheel().set(deadline, house.worker->wheel().now_ms() + TimerWheel::tick_ms);
  house.until([&] { return deadline.fired; });
  house.script.done();
}
