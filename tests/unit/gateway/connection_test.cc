// A connection through its phases: what bridges of ours ask of it (client_socket.h), what comes
// early, who leaves when, and how a shutdown finds it.
#include <fcntl.h>
#include <openssl/ssl.h>

#include <thread>

#include "house.h"
#include "net/tls_context.h"
#include "support/certificate.h"

using namespace sluice;
using namespace sluice::test;

namespace {

using metrics::HandshakeResult;

void decide_later(House& house) {
  house.script.on_open = [](ClientSocket&, const UpgradeRequest&) {};
}

void streams(config::Config& config) {
  config.routes[0].target = config::TcpTarget{};
}

// A client whose upgrade has come, and is not decided.
std::unique_ptr<ClientEnd> undecided(House& house, const std::string& behind = "") {
  decide_later(house);
  auto client = house.connect();
  const bool offers = !house.config.routes[0].subprotocols.empty();
  client->send(upgrade(offers ? "Sec-WebSocket-Protocol: a, b\r\n" : "") + behind);
  house.until([&] { return house.script.last != nullptr; });
  return client;
}

void allow_protocols(config::Config& config) {
  config.routes[0].subprotocols = {"a", "b"};
}

std::unique_ptr<ClientEnd> opened(House& house) {
  auto client = house.connect();
  client->send(upgrade());
  (void)house.head(*client);
  return client;
}

// ---- A client with OpenSSL on memory: what it sends reaches the socket in one piece.

std::shared_ptr<const net::TlsContext> make_tls() {
  static const TemporaryFolder folder;
  static const CertificateFiles files = make_certificate(folder, "example.org");
  net::TlsSettings settings;
  settings.certificates = {{files.cert, files.key}};
  auto context = net::TlsContext::create(settings);
  REQUIRE(context.has_value());
  return *context;
}

class TlsEnd {
 public:
  explicit TlsEnd(House& house)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
        ssl_(SSL_new(context_.get()), SSL_free),
        tls_(make_tls()),
        house_(house),
        end_(house.connect(tls_.get())) {
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl_.get());
    house.until([&] {
      pump();
      return SSL_do_handshake(ssl_.get()) == 1;
    });
  }
  // Each in a record of its own.
  void send(const std::vector<std::string>& records) {
    for (const std::string& record : records) {
      REQUIRE(SSL_write(ssl_.get(), record.data(), static_cast<int>(record.size())) > 0);
    }
    pump();
  }
  std::string get(const std::function<bool(const std::string&)>& enough) {
    std::string got;
    house_.until([&] {
      pump();
      char buffer[16384];
      int count = 0;
      while ((count = SSL_read(ssl_.get(), buffer, sizeof buffer)) > 0) {
        got.append(buffer, static_cast<std::size_t>(count));
      }
      return enough(got) || ended_;
    });
    return got;
  }

 private:
  void pump() {
    char buffer[65536];
    int written = 0;
    while ((written = BIO_read(SSL_get_wbio(ssl_.get()), buffer, sizeof buffer)) > 0) {
      end_->send({buffer, static_cast<std::size_t>(written)});
    }
    const ssize_t count = ::recv(end_->fd(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (count > 0) BIO_write(SSL_get_rbio(ssl_.get()), buffer, static_cast<int>(count));
    ended_ = ended_ || count == 0;
  }

  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_;
  std::shared_ptr<const net::TlsContext> tls_;
  House& house_;
  std::unique_ptr<ClientEnd> end_;
  bool ended_ = false;
};

}  // namespace

// ---- What comes early

TEST_CASE("what a client sent before it was accepted comes before what it sends in that turn") {
  House house;
  const auto client = undecided(house, house.peer.text("one"));
  const std::string two = house.peer.text("two");
  house.in_one_turn([&] { house.script.last->accept(); }, [&] { client->send(two); });
  house.until_told(house.script, "open /echo; text 'one'; text 'two'");
}

TEST_CASE("what a client sent before it was accepted is delivered, even if it ends in that turn") {
  House house;
  const auto client = undecided(house, house.peer.text("one"));
  house.in_one_turn([&] { house.script.last->accept(); }, [&] { client->shutdown(); });
  house.until([&] { return house.script.alive == 0; });
  CHECK(house.script.told == "open /echo; text 'one'; close 1006 '' unclean");
  CHECK(house.closed(metrics::Initiator::client, metrics::CloseReason::lost) == 1);
}

TEST_CASE("a client that sends more than is held while the bridge decides loses nothing of it") {
  House house;
  const auto client = undecided(house);
  std::string frames;
  std::string expected = "open /echo";
  for (int i = 0; i < 40; ++i) {
    const std::string text = numbered(20'000);
    frames += house.peer.binary(text);
    expected += "; binary (20000 bytes)";
  }
  std::thread sender([&] { client->send(frames); });
  house.loop.run_for(50);
  CHECK(house.script.told == "open /echo");
  house.script.last->accept();
  // The echo is read, so that nothing stands still for that.
  house.until([&] {
    char buffer[65536];
    while (::recv(client->fd(), buffer, sizeof buffer, MSG_DONTWAIT) > 0) continue;
    return house.script.told == expected;
  });
  sender.join();
}

TEST_CASE("a client that leaves while the bridge decides is noticed at once") {
  for (const bool early : {false, true}) {
    for (const bool reset : {false, true}) {
      CAPTURE(early);
      CAPTURE(reset);
      House house;
      const auto client = undecided(house, early ? house.peer.text("early") : "");
      reset ? client->reset() : client->close();
      house.until([&] { return house.script.alive == 0; });
      CHECK(house.script.told == "open /echo; close 1006 '' unclean");
      CHECK(house.open.load() == 0);
      CHECK(house.handshakes(HandshakeResult::aborted) == 1);
    }
  }
}

// ---- The opening handshake, as bridges of ours answer it

TEST_CASE("accept() of what the client did not offer does nothing; another answer may follow") {
  for (const bool rejects : {true, false}) {
    CAPTURE(rejects);
    House house(allow_protocols);
    const auto client = undecided(house);
    CHECK_FALSE(house.script.last->accept("c"));
    CHECK(house.script.last->ready_state() == ReadyState::connecting);
    if (rejects) {
      house.script.last->reject(400, "speak b");
      CHECK(house.all(*client).starts_with("HTTP/1.1 400 "));
    } else {
      CHECK(house.script.last->accept("b"));
      CHECK(house.head(*client).find("Sec-WebSocket-Protocol: b\r\n") != std::string::npos);
    }
  }
}

TEST_CASE("accept_as(): the upstream's subprotocol and its fields are in the 101") {
  House house(allow_protocols);
  const auto client = undecided(house);
  house.script.last->accept_as("b", {{"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}});
  CHECK(house.script.last->ready_state() == ReadyState::open);
  CHECK(house.script.last->protocol() == "b");
  const std::string head = house.head(*client);
  CHECK(head.starts_with("HTTP/1.1 101 "));
  CHECK(head.find("Sec-WebSocket-Protocol: b\r\n") != std::string::npos);
  CHECK(head.find("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n") != std::string::npos);
}

TEST_CASE("accept_as(): what the client did not offer, or what is no field, is a 500") {
  for (const bool protocol : {true, false}) {
    CAPTURE(protocol);
    House house(allow_protocols);
    const auto client = undecided(house);
    if (protocol) {
      house.script.last->accept_as("c", {});
    } else {
      house.script.last->accept_as("", {{"X", "a\r\nSet-Cookie: b"}});
    }
    CHECK(house.all(*client).starts_with("HTTP/1.1 500 "));
    CHECK(house.script.told == "open /echo; close 1006 '' unclean");
  }
}

TEST_CASE("handshake(): the request as it came, while the socket is CONNECTING") {
  House house;
  std::string seen;
  house.script.on_open = [&](ClientSocket& socket, const UpgradeRequest&) {
    const ClientRequest request = socket.handshake();
    seen = request.request.target + " " + request.request.header("X-Mine").value_or("") + " " +
           std::string(request.rest) + (request.secure ? " secure" : "");
    CHECK(socket.local_endpoint().to_string().starts_with("127.0.0.1:"));
    socket.accept();
  };
  const auto client = house.connect();
  client->send(upgrade("X-Mine: yes\r\n"));
  (void)house.head(*client);
  CHECK(seen == "/echo yes /echo");
}

TEST_CASE("reject_with(): a whole answer, its reason counted, and the place given back") {
  for (const bool at_once : {true, false}) {
    CAPTURE(at_once);
    House house;
    const auto refuse = [](ClientSocket& socket) {
      socket.reject_with(http::refusal(503, "no room", {{"Retry-After", "7"}}),
                         HandshakeResult::upstream_failed, "all endpoints are full");
    };
    std::unique_ptr<ClientEnd> client;
    if (at_once) {
      house.script.on_open = [&](ClientSocket& socket, const UpgradeRequest&) { refuse(socket); };
      client = house.connect();
      client->send(upgrade() + house.peer.text("early"));
    } else {
      client = undecided(house, house.peer.text("early"));
      refuse(*house.script.last);
    }
    const std::string got = house.all(*client);
    CHECK(got.starts_with("HTTP/1.1 503 "));
    CHECK(got.find("Retry-After: 7\r\n") != std::string::npos);
    CHECK(client->error == 0);
    CHECK(house.script.told == "open /echo; close 1006 '' unclean");
    CHECK(house.handshakes(HandshakeResult::upstream_failed) == 1);
    CHECK(house.open.load() == 0);
  }
}

TEST_CASE("answer_plainly(): a relay serves the client, and the bridge is out of it") {
  for (const bool at_once : {true, false}) {
    CAPTURE(at_once);
    House house;
    const auto relay = [&](ClientSocket& socket) {
      socket.answer_plainly(std::make_unique<ScriptedRelay>(house.relay));
      CHECK(house.relay.told.empty());  // nothing from inside the call
      CHECK(socket.ready_state() == ReadyState::closed);
      socket.accept();  // too late
    };
    std::unique_ptr<ClientEnd> client;
    if (at_once) {
      house.script.on_open = [&](ClientSocket& socket, const UpgradeRequest&) { relay(socket); };
      client = house.connect();
      client->send(upgrade() + house.peer.text("early"));
    } else {
      client = undecided(house, house.peer.text("early"));
      relay(*house.script.last);
    }
    house.until_told(house.relay, "GET /echo; end");
    CHECK(house.script.told == "open /echo; close 1006 '' unclean");
    house.until([&] { return house.script.alive == 0; });
    CHECK(house.open.load() == 0);  // no socket any more
    CHECK(house.handshakes(HandshakeResult::upstream_refused) == 1);
    // What comes now was meant for a WebSocket too.
    client->send(house.peer.text("more"));
    house.loop.run_for(10);
    answer(*house.relay.last, "go away", 401);
    const std::string got = house.all(*client);
    CHECK(got.starts_with("HTTP/1.1 401 "));
    CHECK(got.find("Connection: close\r\n") != std::string::npos);
    CHECK(got.ends_with("go away"));
    CHECK(client->error == 0);
    CHECK(house.relay.told == "GET /echo; end; gone");
  }
}

TEST_CASE("answer_plainly(): a client that goes in the same turn, or before the answer") {
  enum class Goes { after, same_turn, same_turn_first };
  for (const Goes goes : {Goes::after, Goes::same_turn, Goes::same_turn_first}) {
    CAPTURE(static_cast<int>(goes));
    House house;
    const auto client = undecided(house);
    const auto answer_plainly = [&] {
      house.script.last->answer_plainly(std::make_unique<ScriptedRelay>(house.relay));
      CHECK(house.relay.alive == 1);  // who gives it away may be in the midst of its event
    };
    if (goes == Goes::same_turn) {
      house.in_one_turn(answer_plainly, [&] { client->reset(); });
    } else if (goes == Goes::same_turn_first) {
      house.in_one_turn_behind([&] { client->reset(); }, answer_plainly);
    } else {
      answer_plainly();
      house.until_told(house.relay, "GET /echo; end");
      client->reset();
    }
    house.until([&] { return house.worker->load() == 0; });
    CHECK(house.script.told == "open /echo; close 1006 '' unclean");
    CHECK((house.relay.told.empty() || house.relay.told.ends_with("; gone")));
    CHECK(house.relay.alive == 0);
  }
}

TEST_CASE("no connection is given up while its client reads the end of the last response") {
  std::string more;
  SUBCASE("kept") {}
  SUBCASE("not kept") {
    more = "Connection: close\r\n";
  }
  House house([](config::Config& config) { config.requests.keep_alive_timeout_ms = 100; });
  const std::string large(1'500'000, 'x');  // of which the kernel does not take all
  house.relay.on_body_end = [&](RelayClient& client) { answer(client, large); };
  const auto client = house.connect();
  const int little = 32 * 1024;
  ::setsockopt(client->fd(), SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
  client->send(plain("/echo", more));
  std::size_t got = 0;
  std::string piece(16 * 1024, '\0');  // so that the kernel has room to tell of after 150 ms
  ssize_t count = 1;
  while (got <= large.size() && (count > 0 || (count < 0 && errno == EAGAIN))) {
    house.loop.run_for(10);
    count = ::recv(client->fd(), piece.data(), piece.size(), MSG_DONTWAIT);
    if (count > 0) got += static_cast<std::size_t>(count);
  }
  CHECK(got > large.size());
}

TEST_CASE("a bridge that pauses before it accepts is not told what comes behind the handshake") {
  House house;
  house.script.on_open = [](ClientSocket& socket, const UpgradeRequest&) {
    socket.pause();
    socket.accept({});
  };
  const auto client = house.connect();
  client->send(upgrade() + house.peer.text("early"));
  (void)house.head(*client);
  house.loop.run_for(20);
  CHECK(house.script.told == "open /echo");
  house.script.last->resume();
  house.until_told(house.script, "open /echo; text 'early'");
}

TEST_CASE("TLS: records that come together are requests in their order") {
  House house;
  TlsEnd client(house);
  // The first answer is more than may wait, so that `b` is held; it has left before `c` is read.
  client.send({plain("/letters/a") + plain("/letters/b"), plain("/letters/c")});
  const std::string got = client.get([](auto& text) { return text.size() > 3 * House::letters; });
  CHECK(got.find("aaaa") < got.find("bbbb"));
  CHECK(got.find("bbbb") < got.find("cccc"));
  CHECK(got.find("cccc") != std::string::npos);
}

TEST_CASE("TLS: records behind a request that a bridge leaves to a relay") {
  House house;
  house.script.on_open = [&](ClientSocket& socket, const UpgradeRequest&) {
    socket.answer_plainly(std::make_unique<ScriptedRelay>(house.relay));
  };
  house.relay.on_body_end = [](RelayClient& relay) { answer(relay, "no", 404); };
  TlsEnd client(house);
  client.send({upgrade(), house.peer.text("early"), house.peer.text("more")});
  CHECK(client.get([](auto& text) { return text.ends_with("no"); }).starts_with("HTTP/1.1 404 "));
}

TEST_CASE("TLS: records behind a request that is accepted are messages in their order") {
  for (const bool later : {false, true}) {
    CAPTURE(later);
    House house;
    if (later) decide_later(house);
    TlsEnd client(house);
    client.send({upgrade(), house.peer.text("one"), house.peer.text("two")});
    if (later) {
      house.until([&] { return house.script.last != nullptr; });
      house.script.last->accept();
    }
    house.until_told(house.script, "open /echo; text 'one'; text 'two'");
  }
}

// ---- An open socket, as bridges of ours use it

TEST_CASE("a frame in pieces reaches the client, from outside of any event") {
  House house(streams);
  const auto client = opened(house);
  ClientSocket& socket = *house.script.last;
  socket.begin_frame(MessageType::binary, true, true, 5);
  socket.send_payload(as_bytes("He"));
  CHECK(house.get(*client, [](auto& got) { return got.ends_with("He"); }) == "\x82\x05He");
  client->send(house.peer.ping("p"));
  house.loop.run_for(10);
  socket.send_payload(as_bytes("llo"));
  CHECK(house.get(*client, [](auto& got) { return got.ends_with("p"); }) == "llo\x8a\x01p");
}

TEST_CASE("close_with(): what the client sends before it answers is still delivered") {
  House house(streams);
  const auto client = opened(house);
  house.script.last->close_with({.code = 1014, .text = "upstream lost"});
  CHECK(house.get(*client, [](auto& got) { return got.ends_with("lost"); }) ==
        "\x88\x0f\x03\xf6upstream lost");
  client->send(house.peer.text("late"));
  client->send(house.peer.close(1014));
  house.until([&] { return house.script.alive == 0; });
  CHECK(house.script.told == "open /echo; piece 'late'; close 1014 ''");
  CHECK(house.closed(metrics::Initiator::upstream, metrics::CloseReason::normal) == 1);
}

TEST_CASE("abort(): the client sees the end without a Close frame, and the bridge hears of it") {
  House house(streams);
  const auto client = opened(house);
  ClientSocket& socket = *house.script.last;
  socket.begin_frame(MessageType::binary, true, true, 100);
  socket.send_payload(as_bytes("half"));
  socket.abort({.code = 1014, .text = {}, .reason = metrics::CloseReason::upstream_failed});
  CHECK(house.script.told == "open /echo");  // nothing from inside the call
  CHECK(house.all(*client) == "\x82\x64half");
  CHECK(house.script.told == "open /echo; close 1006 '' unclean");
  CHECK(house.closed(metrics::Initiator::upstream, metrics::CloseReason::upstream_failed) == 1);
}

TEST_CASE(
    "a client that closes in the midst of a frame gets the rest of it, however slow it reads") {
  House house(streams);
  const auto client = opened(house);
  ClientSocket& socket = *house.script.last;
  const std::string half = numbered(6'000'000);
  socket.begin_frame(MessageType::binary, true, true, 2 * half.size());
  socket.send_payload(as_bytes(half));
  house.loop.run_for(10);
  CHECK(socket.buffered_amount() > 256 * 1024);
  client->send(house.peer.close(1000));
  house.until([&] { return socket.ready_state() == ReadyState::closing; });
  const std::string first =
      house.get(*client, [&](auto& got) { return got.size() == half.size() + 10; });
  house.until_told(house.script, "open /echo; drain");
  socket.send_payload(as_bytes(half));
  const std::string rest = house.all(*client);
  CHECK(first.substr(10) == half);
  CHECK(rest == half + "\x88\x02\x03\xe8");
  CHECK(house.script.told == "open /echo; drain; close 1000 ''");
}

TEST_CASE("what waits for the upstream is shown for the route's connections") {
  House house(streams);
  const auto client = opened(house);
  house.script.last->set_upstream_buffered(700, 70);
  std::string shown;
  house.counters->connections.for_each([&](const metrics::ConnectionSlot& slot) {
    shown += std::to_string(slot.upstream_bytes.get()) + " " +
             std::to_string(slot.upstream_tls_bytes.get()) + ";";
  });
  CHECK(shown == "700 70;");
  const metrics::RouteCounters& route = house.counters->routes[0];
  CHECK(route.connections_active[0].get() == 1);
  house.script.last->set_upstream_buffered(0, 0);
  house.counters->connections.for_each(
      [](const metrics::ConnectionSlot&) { FAIL_CHECK("nothing waits any more"); });
  CHECK(route.connections_active[0].get() == 1);
  client->close();
  house.until([&] { return house.script.alive == 0; });
  house.script.told.clear();
}

TEST_CASE("a client whose message the upstream takes slowly is not idle") {
  House house([](config::Config& config) {
    streams(config);
    config.routes[0].timeouts.idle_ms = 1'000;
  });
  const auto client = opened(house);
  for (std::size_t left = 8; left > 0; --left) {
    house.script.last->set_upstream_buffered(left * 1'000, 0);
    house.loop.run_for(200);
  }
  CHECK(house.script.last->ready_state() == ReadyState::open);
  house.get(*client, [](auto& text) { return text.find("timeouts.idle") != std::string::npos; });
  client->close();
  house.until([&] { return house.script.alive == 0; });
  house.script.told.clear();
}

// ---- The end of the process, in each phase

namespace {

// Brings a connection into a phase.
struct Stage {
  std::string phase;
  std::function<std::unique_ptr<ClientEnd>(House&)> enter;
};

std::vector<Stage> stages() {
  return {
      {"securing",
       [](House& house) {
         static const auto tls = make_tls();
         auto client = house.connect(tls.get());
         house.loop.run_for(10);
         return client;
       }},
      {"reading",
       [](House& house) {
         auto client = house.connect();
         house.loop.run_for(10);
         return client;
       }},
      {"reading, begun",
       [](House& house) {
         auto client = house.connect();
         client->send("GET /ec");
         house.loop.run_for(10);
         return client;
       }},
      {"deciding", [](House& house) { return undecided(house, house.peer.text("early")); }},
      {"responding",
       [](House& house) {
         auto client = house.connect();
         std::string requests;
         for (int i = 0; i < 60; ++i) requests += plain("/letters/x");
         client->send(requests);
         house.loop.run_for(20);
         return client;
       }},
      {"relaying",
       [](House& house) {
         auto client = house.connect();
         client->send(post("ab", 4));
         house.until([&] { return house.relay.has("body"); });
         return client;
       }},
      {"open", [](House& house) { return opened(house); }},
      {"closing",
       [](House& house) {
         auto client = opened(house);
         (void)house.script.last->close(1000);
         house.loop.run_for(10);
         return client;
       }},
      {"lingering",
       [](House& house) {
         auto client = house.connect();
         client->send(plain("/nowhere", "Connection: close\r\n"));
         (void)house.all(*client);
         return client;
       }},
  };
}

}  // namespace

TEST_CASE("cut(): whatever a connection is doing, it is gone at once, and everybody knows") {
  for (const Stage& stage : stages()) {
    CAPTURE(stage.phase);
    House house;
    const auto client = stage.enter(house);
    CHECK(house.worker->load() == 1);
    bool empty = false;
    house.worker->drain(1'000'000, [&] { empty = true; });
    house.worker->cut();
    house.until([&] { return empty; });
    CHECK(house.script.alive == 0);
    CHECK(house.relay.alive == 0);
    CHECK(house.open.load() == 0);
    CHECK((house.script.told.empty() || house.script.has("; close ")));
    CHECK((house.relay.told.empty() || house.relay.told.ends_with("; gone")));
  }
}

TEST_CASE("a client that resets its connection in whatever phase leaves nothing behind") {
  for (const Stage& stage : stages()) {
    CAPTURE(stage.phase);
    House house([](config::Config& config) {
      config.requests.keep_alive_timeout_ms = 300;  // for what cannot be noticed: unread answers
    });
    const auto client = stage.enter(house);
    CHECK(house.worker->load() == 1);
    client->reset();
    house.until([&] { return house.worker->load() == 0; });
    CHECK(house.script.alive == 0);
    CHECK(house.relay.alive == 0);
    CHECK(house.open.load() == 0);
  }
}

// Answers with an empty file. While it makes the first answer, the client does something.
class FileHandler final : public http::Handler {
 public:
  explicit FileHandler(std::function<void()> client_does) : client_does_(std::move(client_does)) {}
  http::StaticFiles::Reply respond(const http::Request&, std::string_view) const override {
    if (client_does_) std::exchange(client_does_, nullptr)();
    http::StaticFiles::Reply reply;
    reply.head.content_length = 0;
    reply.body = http::FileBody(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return reply;
  }

 private:
  mutable std::function<void()> client_does_;
};

TEST_CASE("a client that has reset its connection does not come back with a request behind it") {
  House house;
  const auto client = house.connect();
  config::Route files;
  files.path = "/files/*";
  auto route = std::make_unique<ServedRoute>(files, 1);
  // The answer cannot be written any more; what was sent before the reset is still read.
  route->http = std::make_shared<FileHandler>([&] {
    client->send(plain("/files/b") + upgrade());
    client->reset();
  });
  house.worker->routes().add(std::move(route));
  client->send(plain("/files/a"));
  house.until([&] { return house.shared.connections.load() == 0; });
  CHECK(house.script.told.empty());
}

TEST_CASE("drain(): a client whose bridge decides is opened, and closed with 1001") {
  House house;
  const auto client = undecided(house);
  bool empty = false;
  house.worker->drain(10'000, [&] { empty = true; });
  house.loop.run_for(20);
  CHECK_FALSE(empty);
  house.script.last->accept();
  const std::string got = house.get(*client, [](auto& text) { return text.ends_with("down"); });
  CHECK(house.peer.read(got.substr(got.find("\r\n\r\n") + 4)) == "close 1001 'shutting down'");
  client->send(house.peer.close(1001));
  client->close();
  house.until([&] { return empty; });
  CHECK(house.script.told == "open /echo; close 1001 ''");
}

TEST_CASE("drain(): who has begun to ask is told to come again; who has not is let go") {
  House house;
  const auto begun = house.connect();
  begun->send("GET /echo HTTP/1.1\r\nHo");
  const auto idle = house.connect();
  house.loop.run_for(10);
  bool empty = false;
  house.worker->drain(10'000, [&] { empty = true; });
  CHECK(house.all(*idle).empty());
  CHECK(idle->error == 0);
  begun->send("st: example.org\r\n\r\n");
  CHECK(house.all(*begun).starts_with("HTTP/1.1 503 "));
  idle->close();
  begun->close();
  house.until([&] { return empty; });
}
