#include "upstreams/http_exchange.h"

#include <doctest/doctest.h>

#include <random>

#include "http_scene.h"
#include "support/fake_transport.h"

using namespace sluice;
using namespace sluice::test;
using upstreams::HttpExchange;
using upstreams::HttpFailure;

namespace {

// Answers the first request on every connection that has come whole as far as its head.
void answer(HttpScene& scene, const std::string& response) {
  scene.server.on_data = [response](Peer& peer) {
    if (!peer.ended && peer.has_head()) peer.send(response);
  };
}

// Sends `text` in pieces, one a turn of the loop.
class Drip {
 public:
  Drip(HttpScene& scene, std::string text, unsigned seed)
      : scene_(scene), text_(std::move(text)), random_(seed) {}

  void begin(Peer& peer, std::size_t piece_max, std::function<void(Peer&)> then) {
    if (at_ == text_.size()) return then(peer);
    const std::size_t size = std::min(
        text_.size() - at_,
        piece_max == 1 ? 1 : std::uniform_int_distribution<std::size_t>(1, piece_max)(random_));
    peer.send(std::string_view(text_).substr(at_, size));
    at_ += size;
    scene_.loop.loop.post([this, &peer, piece_max, then = std::move(then)]() mutable {
      begin(peer, piece_max, std::move(then));
    });
  }

 private:
  HttpScene& scene_;
  std::string text_;
  std::size_t at_ = 0;
  std::mt19937 random_;
};

enum class Then { keep, shutdown, reset };

struct Answer {
  const char* name;
  const char* method;
  const char* response;
  Then then;
  const char* told;
  bool kept;
};

const Answer answers[] = {
    {"a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello", Then::keep,
     "200; 'Hello'; end", true},
    {"no bytes", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Then::keep, "200; end",
     true},
    {"chunks", "GET",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nHel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
     Then::keep, "200; 'Hello'; end", true},
    {"trailers", "GET",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n",
     Then::keep, "200; 'a'; end X-Sum=7", true},
    {"the stream's end", "GET", "HTTP/1.1 200 OK\r\n\r\nHello", Then::shutdown, "200; 'Hello'; end",
     false},
    {"204", "DELETE", "HTTP/1.1 204 No Content\r\n\r\n", Then::keep, "204; end", true},
    {"304 with the length of what it does not send", "GET",
     "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Then::keep, "304; end", true},
    {"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Then::keep, "200; end", true},
    {"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", Then::keep,
     "200; 'ab'; end", false},
    {"HTTP/1.0 that keeps the connection", "GET",
     "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab", Then::keep,
     "200; 'ab'; end", true},
    {"Connection: close", "GET",
     "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", Then::keep,
     "200; 'ab'; end", false},
    {"1xx", "GET",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
     Then::keep, "100; 103; 200; 'ab'; end", true},
    {"bytes behind the response", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1",
     Then::keep, "200; 'ab'; end", false},
    {"a body behind a response to HEAD", "HEAD",
     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello", Then::keep, "200; end", false},
    {"a body behind a 204", "GET", "HTTP/1.1 204 No Content\r\n\r\nHello", Then::keep, "204; end",
     false},

    {"a 101 that was not asked for", "GET",
     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
     Then::keep, "malformed 502", false},
    {"garbage", "GET", "SSH-2.0-OpenSSH_9.2\r\n", Then::keep, "malformed 502", false},
    {"two framings", "GET",
     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     Then::keep, "malformed 502", false},
    {"a malformed chunk", "GET",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nxyz\r\n", Then::keep,
     "200; 'a'; malformed 502", false},
    {"cut off a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHello", Then::shutdown,
     "200; 'Hello'; cut off 502", false},
    {"cut off chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n",
     Then::shutdown, "200; 'Hello'; cut off 502", false},
    {"reset within a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHello",
     Then::reset, "200; 'Hello'; cut off 502", false},
    {"reset where the stream's end would be the body's", "GET", "HTTP/1.1 200 OK\r\n\r\nHello",
     Then::reset, "200; 'Hello'; cut off 502", false},
    {"nothing", "GET", "", Then::shutdown, "broken 502", false},
    {"reset at once", "GET", "", Then::reset, "broken 502", false},
    {"half a head", "GET", "HTTP/1.1 200 OK\r\nContent-", Then::shutdown, "broken 502", false},
    {"an end behind a 1xx", "GET", "HTTP/1.1 103 Early Hints\r\n\r\n", Then::shutdown,
     "103; broken 502", false},
};

void check_answer(const Answer& c, std::size_t piece_max, unsigned seed) {
  CAPTURE(c.name);
  CAPTURE(piece_max);
  HttpScene scene;
  Drip drip(scene, c.response, seed);
  bool sent = false;  // all of it, and the end
  ExchangeOwner owner;
  scene.server.on_data = [&](Peer& peer) {
    if (peer.ended || peer.received.empty()) return;
    peer.received.clear();
    drip.begin(peer, piece_max, [&](Peer& done) {
      if (c.then == Then::shutdown) done.shutdown();
      if (c.then != Then::reset) {
        sent = true;
        return;
      }
      // What was sent before is to arrive before.
      scene.loop.loop.post([&] {
        scene.loop.loop.post([&] {
          done.reset();
          sent = true;
        });
      });
    });
  };
  scene.start(scene.request(c.method), owner);
  scene.loop.run_until([&] { return owner.over && sent; });
  CHECK(owner.log() == c.told);
  CHECK(scene.upstream->counters().request_failures.get() == (owner.failure ? 1 : 0));
  // Bytes behind a response may come later than its end.
  const bool kept = scene.connections() == 1;
  if (c.kept) {
    CHECK(kept);
    CHECK(scene.take_kept());
  } else {
    scene.loop.run_until([&] { return scene.connections() == 0; });
  }
}

}  // namespace

TEST_CASE("exchange: responses of every kind, whole, byte by byte and in random pieces") {
  for (const Answer& c : answers) {
    check_answer(c, 1'000'000, 0);
    check_answer(c, 1, 0);
    for (unsigned seed = 1; seed <= 3; ++seed) check_answer(c, 16, seed);
  }
}

TEST_CASE("exchange: no more than 32 1xx responses") {
  const std::string hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
  for (const int count : {32, 33}) {
    HttpScene scene;
    std::string response;
    for (int i = 0; i < count; ++i) response += hint;
    answer(scene, response + ok(""));
    const std::string told = scene.run(scene.request("GET"));
    CHECK(told.ends_with(count == 32 ? "103; 200; end" : "103; malformed 502"));
  }
}

// ---- The request

TEST_CASE("exchange: the request's head and its framing") {
  struct Case {
    http::BodyFraming body;
    const char* field;
  };
  for (const Case& c : {Case{{}, ""}, Case{length(0), "Content-Length: 0\r\n"}}) {
    HttpScene scene;
    answer(scene, ok(""));
    upstreams::HttpRequest request = scene.request("POST", c.body);
    request.headers.push_back({"X-Case", "Kept As It Is"});
    ExchangeOwner owner;
    HttpExchange& exchange = scene.start(std::move(request), owner);
    HttpScene::quietly(owner, [&] { exchange.end_body(); });
    scene.loop.run_until([&] { return owner.over; });
    CHECK(scene.server.last().received ==
          std::string("POST /x HTTP/1.1\r\nHost: example.org\r\nX-Case: Kept As It Is\r\n") +
              c.field + "\r\n");
    CHECK(scene.take_kept());
  }
}

TEST_CASE("exchange: what cannot be a request is never sent") {
  HttpScene scene;
  upstreams::HttpRequest request = scene.request("GET");
  request.headers.push_back({"X", "a\r\nY: b"});
  CHECK(scene.run(std::move(request)) == "malformed 502");
  CHECK(scene.server.peers.empty());
}

TEST_CASE("exchange: a body with a length, before and after the connection stands") {
  HttpScene scene;
  scene.server.on_data = [](Peer& peer) {
    if (!peer.ended && peer.received.ends_with("World")) peer.send(ok("got it"));
  };
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("POST", length(10)), owner);
  HttpScene::quietly(owner, [&] { exchange.send_body(as_bytes("Hello")); });
  CHECK(exchange.request_buffered() == 5);
  scene.loop.run_until(
      [&] { return !scene.server.peers.empty() && scene.server.last().has_head(); });
  HttpScene::quietly(owner, [&] {
    exchange.send_body(as_bytes("World and what was not announced"));
    exchange.end_body();
  });
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.log() == "200; 'got it'; end");
  CHECK(scene.server.last().received ==
        "POST /x HTTP/1.1\r\nHost: example.org\r\nContent-Length: 10\r\n\r\nHelloWorld");
  CHECK(scene.take_kept());
}

TEST_CASE("exchange: a chunked body with trailers") {
  HttpScene scene;
  scene.server.on_data = [](Peer& peer) {
    if (!peer.ended && peer.received.ends_with("\r\n0\r\nX-Sum: 7\r\n\r\n"))
      peer.send(ok("got it"));
  };
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("PUT", chunked()), owner);
  exchange.send_body(as_bytes("Hel"));
  exchange.send_body(as_bytes("lo"));  // in one chunk, since the connection does not stand yet
  scene.loop.run_until(
      [&] { return !scene.server.peers.empty() && scene.server.last().has_head(); });
  exchange.send_body(as_bytes("World"));
  exchange.end_body({{"X-Sum", "7"}});
  scene.loop.run_until([&] { return owner.over; });
  CHECK(scene.server.last().body() == "5\r\nHello\r\n5\r\nWorld\r\n0\r\nX-Sum: 7\r\n\r\n");
  CHECK(scene.take_kept());
}

TEST_CASE("exchange: a chunked body that is complete before the connection stands") {
  HttpScene scene;
  scene.server.on_data = [](Peer& peer) {
    if (!peer.ended && peer.received.ends_with("X-Sum: 7\r\n\r\n")) peer.send(ok(""));
  };
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("PUT", chunked()), owner);
  exchange.send_body(as_bytes("Hello"));
  exchange.end_body({{"X-Sum", "7"}});
  scene.loop.run_until([&] { return owner.over; });
  CHECK(scene.server.last().body() == "5\r\nHello\r\n0\r\nX-Sum: 7\r\n\r\n");
}

TEST_CASE("exchange: a body that ends before its length leaves no connection to be used again") {
  HttpScene scene;
  answer(scene, ok(""));
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("POST", length(10)), owner);
  exchange.send_body(as_bytes("Hello"));
  exchange.end_body();
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.log() == "200; end");
  CHECK_FALSE(scene.take_kept());
}

TEST_CASE("exchange: an upstream that does not read makes request_buffered() grow, then drain") {
  HttpScene scene;
  upstreams::HttpRequest request = scene.request("POST", chunked());
  request.high_watermark_bytes = 128 * 1024;
  request.low_watermark_bytes = 32 * 1024;
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(std::move(request), owner);
  scene.loop.run_until(
      [&] { return !scene.server.peers.empty() && scene.server.last().has_head(); });
  Peer& peer = scene.server.last();
  peer.received.clear();
  peer.read(false);

  const std::string piece = numbered(64 * 1024);
  std::size_t sent = 0;
  const auto send = [&] {
    while (exchange.request_buffered() <= 128 * 1024) {
      HttpScene::quietly(owner, [&] { exchange.send_body(as_bytes(piece)); });
      sent += piece.size();
      scene.end_turn();
    }
  };
  send();
  const std::size_t full = exchange.request_buffered();
  CHECK(full <= 128 * 1024 + piece.size() + 64);
  scene.loop.run_for(20);
  CHECK(exchange.request_buffered() == full);
  CHECK(owner.drains == 0);

  peer.read(true);
  scene.loop.run_until([&] { return owner.drains == 1; });
  CHECK(exchange.request_buffered() <= 32 * 1024);
  exchange.end_body();
  scene.server.on_data = [](Peer& reader) {
    if (reader.received.ends_with("\r\n0\r\n\r\n")) reader.send(ok(""));
  };
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.drains == 1);
  CHECK(peer.received.size() > sent);
}

// ---- Back-pressure of the response

TEST_CASE("exchange: after pause() nothing is delivered, of what was received neither") {
  const std::string body = numbered(8 * 1024 * 1024);
  HttpScene scene;
  answer(scene, ok(body));
  ExchangeOwner owner;
  HttpExchange* exchange = nullptr;
  owner.body_then = [&] {
    // No event comes while it lasts.
    owner.in_call = true;
    exchange->pause();
  };
  exchange = &scene.start(scene.request("GET"), owner);
  scene.loop.run_until([&] { return !owner.body.empty(); });
  scene.loop.run_for(30);
  CHECK(owner.body.size() <= net::IoBuffers::receive_bytes);
  CHECK(scene.server.last().unsent() > 0);  // the upstream feels it

  owner.body_then = {};
  exchange->resume();
  owner.in_call = false;
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.body == body);
  CHECK(scene.take_kept());
}

TEST_CASE("exchange: pause() holds every event back, in whatever order things happen") {
  for (const std::string how : {"end", "cut", "reset"}) {
    CAPTURE(how);
    HttpScene scene;
    const bool cut = how != "end";
    answer(scene, cut ? "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHello" : ok("Hello"));
    ExchangeOwner owner;
    HttpExchange* exchange = nullptr;
    owner.response_then = [&] {
      exchange->pause();
      owner.in_call = true;
    };
    exchange = &scene.start(scene.request("GET"), owner);
    scene.loop.run_until([&] { return owner.head.has_value(); });
    if (how == "cut") scene.server.last().close();
    if (how == "reset") scene.server.last().reset();
    scene.loop.run_for(20);
    CHECK(owner.log() == "200");
    exchange->resume();
    exchange->pause();
    scene.loop.run_for(20);
    CHECK(owner.log() == "200");
    exchange->resume();
    owner.in_call = false;
    scene.loop.run_until([&] { return owner.over; });
    CHECK(owner.log() == (cut ? "200; 'Hello'; cut off 502" : "200; 'Hello'; end"));
  }
}

// A TLS stream may tell more of what it has read after read(false).
TEST_CASE("exchange: what a paused transport still tells is held until resume()") {
  struct Case {
    std::size_t length;
    const char* more;  // while it is paused, in two pieces
    enum { nothing, end, failure } then;
    const char* told;
  };
  const Case cases[] = {
      {4, "bcd", Case::nothing, "200; 'abcd'; end"},
      {9, "bcd", Case::end, "200; 'abcd'; cut off 502"},
      {9, "bcd", Case::failure, "200; 'abcd'; cut off 502"},
      {9, "", Case::end, "200; 'a'; cut off 502"},
      {9, "", Case::failure, "200; 'a'; cut off 502"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.told);
    HttpScene scene;
    auto made = std::make_unique<FakeTransport>(scene.buffers.pool);
    FakeTransport& transport = *made;
    scene.pool.give_back(scene.upstream, {std::move(made), scene.lease()}, {});
    const auto receive = [&](std::string text) {
      transport.owner->on_receive({reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
    };
    ExchangeOwner owner;
    HttpExchange& exchange = scene.start(scene.request("GET"), owner);
    scene.end_turn();
    receive("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(c.length) + "\r\n\r\na");
    HttpScene::quietly(owner, [&] {
      exchange.pause();
      const std::string more = c.more;
      if (!more.empty()) receive(more.substr(0, 1));
      scene.end_turn();
      if (c.then == Case::nothing) exchange.resume();
      if (!more.empty()) receive(more.substr(1));
      if (c.then == Case::end) transport.owner->on_end();
      if (c.then == Case::failure) {
        transport.owner->on_failure(net::FailureKind::reset, Error{"reset"});
      }
      if (c.then != Case::nothing) scene.end_turn();
      CHECK_FALSE(transport.reading);
      exchange.resume();
    });
    scene.end_turn();
    CHECK(owner.log() == c.told);
    CHECK((scene.connections() == 1) == (c.then == Case::nothing));
  }
}

TEST_CASE("exchange: the kernel is asked about an upstream whose response does not come at once") {
  HttpScene scene;
  auto made = std::make_unique<FakeTransport>(scene.buffers.pool);
  FakeTransport& transport = *made;
  scene.pool.give_back(scene.upstream, {std::move(made), scene.lease()}, {});
  const auto run = [&](std::uint64_t timeout_ms, const std::vector<std::string>& pieces) {
    ExchangeOwner owner;
    upstreams::HttpRequest request = scene.request("GET");
    request.user_timeout_ms = timeout_ms;
    scene.start(request, owner);
    scene.end_turn();
    for (std::string piece : pieces) {
      transport.owner->on_receive({reinterpret_cast<std::uint8_t*>(piece.data()), piece.size()});
    }
    scene.end_turn();
    CHECK(owner.log() == "200; 'Hello'; end");
    CHECK(scene.connections() == 1);
  };
  run(7'000, {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello"});
  CHECK(transport.user_timeout_ms == 0);
  run(7'000, {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "Hello"});
  CHECK(transport.user_timeout_ms == 7'000);
  transport.user_timeout_ms = 1;
  run(7'000, {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHel", "lo"});
  CHECK(transport.user_timeout_ms == 1);  // it has it already
  run(0, {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHel", "lo"});
  CHECK(transport.user_timeout_ms == 0);
}

// ---- Kept connections that turn out to be stale

namespace {

// One connection in the pool, whose upstream ends it when the next request comes.
struct StaleScene : HttpScene {
  explicit StaleScene(std::string_view before_the_end = {}, bool with_reset = false) {
    answer(*this, ok(""));
    REQUIRE(run(request("GET")) == "200; end");
    stale = &server.last();
    stale->received.clear();
    server.on_data = [this, text = std::string(before_the_end), with_reset](Peer& peer) {
      if (peer.ended) return;
      if (&peer != stale) return peer.send(ok("fresh"));
      if (!peer.received.ends_with(await)) return;
      peer.send(text);
      with_reset ? peer.reset() : peer.close();
    };
  }
  Peer* stale;
  std::string await = "\r\n\r\n";  // the end of what the upstream reads first
};

}  // namespace

TEST_CASE("exchange: a stale connection costs an idempotent request nothing") {
  for (const bool with_reset : {false, true}) {
    for (const char* method : {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}) {
      CAPTURE(method);
      StaleScene scene({}, with_reset);
      const std::string told = scene.run(scene.request(method));
      CHECK(told == (method == std::string_view("HEAD") ? "200; end" : "200; 'fresh'; end"));
      CHECK(scene.server.peers.size() == 2);
      CHECK(scene.upstream->counters().request_failures.get() == 0);
      CHECK(scene.upstream->counters().requests.get() == 2);
    }
  }
}

TEST_CASE("exchange: a stale connection does not take the place of the one that follows it") {
  StaleScene scene;
  scene.config.connections_max = 1;
  scene.make_upstream();
  answer(scene, ok(""));
  REQUIRE(scene.run(scene.request("GET")) == "200; end");
  Peer* const stale = &scene.server.last();
  stale->received.clear();
  scene.server.on_data = [&](Peer& peer) {
    if (peer.ended) return;
    if (&peer != stale) return peer.send(ok("fresh"));
    peer.close();
  };
  CHECK(scene.run(scene.request("GET")) == "200; 'fresh'; end");
}

TEST_CASE("exchange: the body is sent once more, as long as it is held") {
  struct Case {
    std::size_t bytes;
    bool retried;
  };
  for (const Case& c : {Case{1'000, true}, Case{64 * 1024, true}, Case{64 * 1024 + 1, false}}) {
    CAPTURE(c.bytes);
    StaleScene scene;
    const std::string body = numbered(c.bytes);
    scene.await = body.substr(body.size() - 8);
    scene.server.on_data = [&, then = scene.server.on_data](Peer& peer) {
      if (&peer == scene.stale || peer.received.ends_with(scene.await)) then(peer);
    };
    ExchangeOwner owner;
    HttpExchange& exchange = scene.start(scene.request("PUT", length(c.bytes)), owner);
    exchange.send_body(as_bytes(body).first(500));
    scene.loop.run_until([&] { return scene.stale->has_head(); });
    exchange.send_body(as_bytes(body).subspan(500));
    exchange.end_body();
    scene.loop.run_until([&] { return owner.over; });
    if (c.retried) {
      CHECK(owner.log() == "200; 'fresh'; end");
      CHECK(scene.server.last().body() == body);
    } else {
      CHECK(owner.log() == "broken 502");
    }
  }
}

TEST_CASE("exchange: a request that does something each time is not sent twice") {
  for (const char* method : {"POST", "PATCH", "LOCK"}) {
    StaleScene scene;
    ExchangeOwner owner;
    scene.start(scene.request(method), owner);
    scene.loop.run_until([&] { return owner.over; });
    CHECK(owner.log() == "broken 502");
    CHECK(owner.failure->request_sent);
    CHECK(owner.failure->detail ==
          scene.server.address() + ": connection closed before the response");
    CHECK(scene.server.peers.size() == 1);
  }
}

TEST_CASE("exchange: no request is sent on a connection whose end has arrived") {
  for (const bool with_reset : {false, true}) {
    CAPTURE(with_reset);
    StaleScene scene;
    with_reset ? scene.stale->reset() : scene.stale->close();  // and the loop has not run since
    CHECK(scene.run(scene.request("POST")) == "200; 'fresh'; end");
  }
}

TEST_CASE("exchange: what the kernel did not take was not sent, and is sent on a new connection") {
  StaleScene scene;
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("POST", length(5)), owner);
  exchange.send_body(as_bytes("Hello"));
  exchange.end_body();
  scene.stale->reset();  // when the connection has been taken from the pool already
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.log() == "200; 'fresh'; end");
  CHECK(scene.server.peers.size() == 2);
  CHECK(scene.server.last().body() == "Hello");
}

TEST_CASE("exchange: what was not sent, and cannot be sent any more, is told as that") {
  StaleScene scene;
  scene.server.stop_listening();
  ExchangeOwner owner;
  scene.start(scene.request("POST"), owner);
  scene.stale->reset();
  while (!owner.over) {
    scene.loop.run_for(20);
    scene.pass(500);
  }
  CHECK(owner.log() == "connect 502");
  CHECK_FALSE(owner.failure->request_sent);
}

TEST_CASE("exchange: with a part of the response, nothing is sent twice") {
  for (const char* part : {"H", "HTTP/1.1 103 Early Hints\r\n\r\n"}) {
    StaleScene scene(part);
    CHECK(scene.run(scene.request("GET")).ends_with("broken 502"));
    CHECK(scene.server.peers.size() == 1);
  }
}

TEST_CASE("exchange: a new connection that ends at once is not tried again") {
  HttpScene scene;
  scene.server.on_data = [](Peer& peer) { peer.close(); };
  CHECK(scene.run(scene.request("GET")) == "broken 502");
  CHECK(scene.server.peers.size() == 1);
}

TEST_CASE("exchange: a stale connection to an upstream that is gone is a failure to connect") {
  StaleScene scene;
  scene.server.stop_listening();
  ExchangeOwner owner;
  scene.start(scene.request("GET"), owner);
  while (!owner.over) {
    scene.loop.run_for(20);
    scene.pass(500);
  }
  CHECK(owner.log() == "connect 502");
  CHECK(owner.failure->dial->reason == metrics::ConnectFailure::refused);
  CHECK_FALSE(owner.failure->request_sent);
}

// ---- Time

TEST_CASE("exchange: response_timeout counts from the request's end to the response's head") {
  HttpScene scene;
  upstreams::HttpRequest request = scene.request("POST", length(10));
  request.response_timeout_ms = 5'000;
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(std::move(request), owner);
  scene.loop.run_until(
      [&] { return !scene.server.peers.empty() && scene.server.last().has_head(); });
  scene.pass(20'000);  // it is the client that is slow
  exchange.send_body(as_bytes("Hello"));
  scene.end_turn();
  scene.pass(20'000);
  CHECK(owner.log().empty());
  exchange.send_body(as_bytes("World"));
  exchange.end_body();
  scene.end_turn();
  scene.pass(4'500);
  CHECK(owner.log().empty());
  scene.pass(1'000);
  CHECK(owner.log() == "timeout 504");
  CHECK(owner.failure->request_sent);
  CHECK(scene.connections() == 0);
}

TEST_CASE("exchange: an upstream that takes nothing of the body is not waited for") {
  HttpScene scene;
  upstreams::HttpRequest request = scene.request("POST", chunked());
  request.response_timeout_ms = 5'000;
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(std::move(request), owner);
  scene.loop.run_until(
      [&] { return !scene.server.peers.empty() && scene.server.last().has_head(); });
  scene.server.last().read(false);
  const std::string piece = numbered(64 * 1024);
  while (exchange.request_buffered() < 16'000'000) {
    exchange.send_body(as_bytes(piece));
    scene.end_turn();
  }
  scene.pass(4'500);
  CHECK(owner.log().empty());
  scene.server.last().read(true);  // it goes on
  scene.loop.run_until([&] { return exchange.request_buffered() < 15'000'000; });
  CHECK(exchange.request_buffered() > 0);
  scene.server.last().read(false);
  scene.pass(4'500);
  CHECK(owner.log().empty());
  scene.pass(1'000);
  CHECK(owner.log() == "timeout 504");
  CHECK_FALSE(owner.failure->request_sent);
}

TEST_CASE("exchange: once the head is there, the body may take its time") {
  HttpScene scene;
  answer(scene, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  ExchangeOwner owner;
  scene.start(scene.request("GET"), owner);
  scene.loop.run_until([&] { return owner.head.has_value(); });
  scene.pass(3'600'000);
  CHECK(owner.log() == "200");
  scene.server.last().send("Hello");
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.log() == "200; 'Hello'; end");
}

// ---- Responses before the request's end

TEST_CASE("exchange: a response that comes early is delivered, and the body goes on") {
  HttpScene scene;
  answer(scene, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("POST", chunked()), owner);
  exchange.send_body(as_bytes("first"));
  scene.loop.run_until([&] { return owner.body == "ab"; });
  scene.server.on_data = [](Peer& peer) {
    if (peer.received.ends_with("0\r\n\r\n")) peer.send("0\r\n\r\n");
  };
  exchange.send_body(as_bytes("second"));
  exchange.end_body();
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.log() == "200; 'ab'; end");
  CHECK(scene.server.last().body() == "5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n");
  CHECK(scene.take_kept());
}

TEST_CASE("exchange: a response that ends early ends the exchange, and the connection") {
  HttpScene scene;
  answer(scene, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("POST", chunked()), owner);
  exchange.send_body(as_bytes("first"));
  scene.loop.run_until([&] { return owner.over; });
  CHECK(owner.log() == "413; end");
  CHECK_FALSE(scene.take_kept());
  CHECK(scene.connections() == 0);
  exchange.send_body(as_bytes("into the void"));
  exchange.end_body();
  CHECK(exchange.request_buffered() == 0);
  scene.loop.run_until([&] { return scene.server.last().ended; });
}

TEST_CASE("exchange: an upstream that answers and reads no further does not lose its answer") {
  HttpScene scene;
  scene.server.on_data = [](Peer& peer) {
    if (peer.ended || !peer.has_head()) return;
    peer.read(false);
    peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nfull");
    peer.shutdown();
  };
  ExchangeOwner owner;
  HttpExchange& exchange = scene.start(scene.request("POST", length(100'000'000)), owner);
  const std::string piece = numbered(64 * 1024);
  exchange.send_body(as_bytes(piece));
  scene.loop.run_until([&] {
    if (!owner.over && exchange.request_buffered() < 1'000'000) exchange.send_body(as_bytes(piece));
    return owner.over;
  });
  CHECK(owner.log() == "413; 'full'; end");
}

// ---- Upgrades

TEST_CASE("exchange: an upgrade hands the stream over, with what came behind the 101") {
  const std::string switching =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
  for (const bool at_once : {true, false}) {
    HttpScene scene;
    answer(scene, switching + "first frame");
    REQUIRE(scene.run(scene.request("GET")) == "malformed 502");  // not asked for
    upstreams::HttpRequest request = scene.request("GET");
    request.upgrade = true;
    ExchangeOwner owner;
    HttpExchange* exchange = nullptr;
    upstreams::Upgraded upgraded;
    if (at_once) owner.response_then = [&] { upgraded = exchange->take_upgraded(); };
    exchange = &scene.start(std::move(request), owner);
    scene.loop.run_until([&] { return owner.head.has_value(); });
    if (!at_once) upgraded = exchange->take_upgraded();
    CHECK(owner.log() == "101");
    CHECK(as_text(upgraded.received) == "first frame");
    REQUIRE(upgraded.transport != nullptr);
    CHECK(upgraded.lease.endpoint() == scene.upstream->endpoints().front().get());

    Recorder recorder;
    upgraded.transport->set_owner(recorder);
    upgraded.transport->read(true);
    scene.exchanges.clear();
    scene.server.last().send(", second frame");
    scene.loop.run_until([&] { return !recorder.received.empty(); });
    CHECK(recorder.received == ", second frame");
    upgraded.transport.reset();
  }
}

TEST_CASE("exchange: an upgrade uses no kept connection, and leaves none") {
  HttpScene scene;
  scene.server.on_data = [](Peer& peer) {
    if (!peer.ended && peer.has_head()) peer.send(ok("no"));
    peer.received.clear();
  };
  REQUIRE(scene.run(scene.request("GET")) == "200; 'no'; end");
  upstreams::HttpRequest request = scene.request("GET");
  request.upgrade = true;
  CHECK(scene.run(std::move(request)) == "200; 'no'; end");
  CHECK(scene.server.peers.size() == 2);
  CHECK(scene.take_kept());        // the first request's
  CHECK_FALSE(scene.take_kept());  // and no other
}

// ---- Ends

TEST_CASE("exchange: one that is destroyed early closes its connection") {
  HttpScene scene;
  answer(scene, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHello");
  ExchangeOwner owner;
  scene.start(scene.request("GET"), owner);
  scene.loop.run_until([&] { return !owner.body.empty(); });
  scene.exchanges.clear();
  CHECK(scene.connections() == 0);
  scene.loop.run_until([&] { return scene.server.last().ended; });
}

TEST_CASE("exchange: after cancel() nothing is heard, even within the same piece") {
  HttpScene scene;
  answer(scene,
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
  ExchangeOwner owner;
  HttpExchange* exchange = nullptr;
  owner.body_then = [&] {
    exchange->cancel();
    scene.turn.retire(std::move(scene.exchanges.front()));
    scene.exchanges.clear();
  };
  exchange = &scene.start(scene.request("GET"), owner);
  scene.loop.run_until([&] { return !scene.server.peers.empty() && scene.server.last().ended; });
  CHECK(owner.log() == "200");
  CHECK(owner.body == "a");
}

TEST_CASE("exchange: after cancel() nothing is heard of a connection that was being made") {
  HttpScene scene;
  scene.config.connections_max = 1;
  scene.make_upstream();
  const upstreams::Lease lease = scene.lease();  // so that it fails, at the end of the turn
  ExchangeOwner owner;
  scene.start(scene.request("GET"), owner).cancel();
  scene.end_turn();
  CHECK(owner.log().empty());
}

TEST_CASE("exchange: another owner hears of what follows") {
  HttpScene scene;
  answer(scene, ok("Hello"));
  ExchangeOwner first;
  ExchangeOwner second;
  HttpExchange* exchange = nullptr;
  first.response_then = [&] { exchange->set_owner(second); };
  exchange = &scene.start(scene.request("GET"), first);
  scene.loop.run_until([&] { return second.over; });
  CHECK(first.log() == "200");
  CHECK(second.log() == "'Hello'; end");
}

TEST_CASE("exchange: one that is given up while it connects") {
  HttpScene scene;
  ExchangeOwner owner;
  scene.start(scene.request("GET"), owner);
  scene.exchanges.clear();
  scene.loop.run_for(20);
  CHECK(owner.log().empty());
  CHECK(scene.connections() == 0);
}
