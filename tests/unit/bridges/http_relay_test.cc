#include "bridges/http_relay.h"

#include <doctest/doctest.h>

#include "bridges/upstream_request.h"
#include "unit/upstreams/http_scene.h"

using namespace sluice;
using namespace sluice::test;

namespace {

// Writes down what it is told: "103 x=1; 200 x=1 length 5; 'Hello'; end".
struct FakeRelayClient final : RelayClient {
  void name_upstream(std::string_view upstream, std::string_view endpoint) override {
    upstream_name = upstream;
    endpoint_name = endpoint;
  }
  void inform(const http::Response& head) override { tell(shown(head)); }
  void respond(const http::Response& head) override {
    std::string text = shown(head);
    if (head.content_length) text += " length " + std::to_string(*head.content_length);
    tell(text);
    reason_phrase = head.reason_phrase;
  }
  void send_body(Bytes piece) override {
    body += as_text(piece);
    buffered += piece.size();
  }
  void end_response(const std::vector<http::Header>& trailers) override {
    flush_body();
    tell("end" + shown(trailers));
    over = true;
  }
  void refuse(const http::Response& response, std::string_view reason) override {
    tell("refuse " + shown(response));
    why = reason;
    over = true;
  }
  void abort_response(std::string_view reason) override {
    flush_body();
    tell("abort");
    why = reason;
    over = true;
  }
  std::size_t buffered_amount() const override { return buffered; }
  void pause_body() override {
    CHECK_FALSE(paused);
    paused = true;
  }
  void resume_body() override {
    CHECK(paused);
    paused = false;
  }
  std::uint64_t id() const override { return 1; }

  std::string told;
  std::string body;
  std::string why;
  std::string reason_phrase;
  std::string upstream_name;
  std::string endpoint_name;
  std::size_t buffered = 0;
  bool paused = false;
  bool over = false;

 private:
  static std::string shown(const std::vector<http::Header>& fields) {
    std::string text;
    for (const http::Header& field : fields) text += " " + field.name + "=" + field.value;
    return text;
  }
  static std::string shown(const http::Response& head) {
    return std::to_string(head.status) + shown(head.headers);
  }
  void tell(const std::string& what) {
    CHECK_FALSE(over);
    if (!told.empty()) told += "; ";
    told += what;
  }
  void flush_body() {
    if (!body.empty()) tell("'" + body + "'");
  }
};

struct RelayScene : HttpScene {
  RelayScene() {
    config::HttpTarget target;
    target.upstream = "up";
    route.target = target;
    route.path = "/*";
    received.method = "GET";
    received.target = received.path = "/x";
    received.host = received.authority = "example.org";
    received.headers = {{"Host", "example.org"}};
    trusted = http::TrustedProxies::parse({"10.0.0.0/8"}).value();
  }
  ~RelayScene() { relay.reset(); }

  config::HttpTarget& target() { return std::get<config::HttpTarget>(route.target); }
  bridges::HttpRoute http_route() { return {context, pool, upstream, route, trusted}; }
  ClientRequest client_request() const {
    return {.request = received,
            .rest = rest,
            .parameters = parameters,
            .client = peer,
            .secure = false};
  }
  upstreams::HttpRequest forwarded() {
    return bridges::upstream_request(http_route(), client_request());
  }

  void begin() {
    factory = std::make_unique<bridges::HttpRelayFactory>(http_route());
    relay = factory->create();
    relay->on_request(client_request(), client);
  }
  // A whole request without a body.
  std::string run() {
    begin();
    relay->on_body_end({});
    loop.run_until([&] { return client.over; });
    return client.told;
  }
  void answer(const std::string& response) {
    server.on_data = [response](Peer& up) {
      if (!up.ended && up.has_head()) up.send(response);
    };
  }

  config::Route route;
  http::TrustedProxies trusted;
  http::Request received;
  std::string rest = "/x";
  std::vector<std::pair<std::string, std::string>> parameters;
  net::Endpoint peer;  // a unix one, unless a test says otherwise
  FakeRelayClient client;
  std::unique_ptr<bridges::HttpRelayFactory> factory;
  std::unique_ptr<Relay> relay;
};

net::Endpoint ipv4(const char* ip) {
  sockaddr_storage storage{};
  auto& address = reinterpret_cast<sockaddr_in&>(storage);
  address.sin_family = AF_INET;
  inet_pton(AF_INET, ip, &address.sin_addr);
  return net::Endpoint(storage);
}

std::string value(const upstreams::HttpRequest& request, std::string_view name) {
  std::string text;
  for (const http::Header& field : request.headers) {
    if (field.name == name) text += (text.empty() ? "" : " | ") + field.value;
  }
  return text;
}

}  // namespace

TEST_CASE("http relay: the upstream's target is the path, rewritten, and the query as it came") {
  struct Case {
    const char* rewrite;
    const char* target;
    const char* expected;
  };
  const Case cases[] = {
      {"", "/app/r1/x", "/app/r1/x"},    {"", "/app/r1/x?a=%2f&b=|", "/app/r1/x?a=%2f&b=|"},
      {"", "/app/r1/x?", "/app/r1/x?"},  {"/v2/{room}/*", "/app/r1/x?a=1?", "/v2/r1/x?a=1?"},
      {"/fixed", "/app/r1/x", "/fixed"}, {"/fixed", "*", "*"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.target);
    RelayScene scene;
    scene.target().rewrite = c.rewrite;
    const std::string target = c.target;
    scene.received.target = target;
    scene.received.path = target.substr(0, target.find('?'));
    if (target.find('?') != std::string::npos) {
      scene.received.query = target.substr(target.find('?') + 1);
    }
    scene.rest = "/x";
    scene.parameters = {{"room", "r1"}};
    CHECK(scene.forwarded().target == c.expected);
  }
}

TEST_CASE("http relay: fields are forwarded, and the route's rules applied") {
  RelayScene scene;
  scene.target().headers.set = {{"X-Set", "by us"}, {"X-Kept", "replaced"}};
  scene.target().headers.remove = {"X-Removed"};
  scene.target().response_timeout_ms = 1234;
  scene.route.buffers.high_watermark_bytes = 1000;
  scene.route.keepalive.tcp_user_timeout_ms = 7000;
  scene.route.buffers.low_watermark_bytes = 100;
  scene.received.method = "POST";
  scene.received.headers = {{"Host", "example.org"},
                            {"Connection", "X-Nominated"},
                            {"X-Nominated", "1"},
                            {"X-Kept", "1"},
                            {"X-Removed", "1"},
                            {"Expect", "100-continue"},
                            {"Content-Length", "5"},
                            {"Upgrade", "h2c"},
                            {"X-Forwarded-For", "192.0.2.9"},
                            {"Cookie", "a=b; c"}};
  scene.peer = ipv4("198.51.100.1");
  upstreams::HttpRequest request = scene.forwarded();
  CHECK(request.method == "POST");
  CHECK(value(request, "Host") == "example.org");
  CHECK(value(request, "Cookie") == "a=b; c");
  CHECK(value(request, "X-Set") == "by us");
  CHECK(value(request, "X-Kept") == "replaced");
  CHECK(value(request, "X-Forwarded-For") == "198.51.100.1");  // nobody trusts the client
  CHECK(value(request, "X-Forwarded-Proto") == "http");
  for (const char* name : {"X-Nominated", "X-Removed", "Expect", "Content-Length", "Upgrade"}) {
    CAPTURE(name);
    CHECK(value(request, name).empty());
  }
  CHECK(request.body.kind == http::BodyFraming::Kind::length);
  CHECK(request.body.length == 5);
  CHECK_FALSE(request.upgrade);
  CHECK(request.response_timeout_ms == 1234);
  CHECK(request.high_watermark_bytes == 1000);
  CHECK(request.user_timeout_ms == 7000);
  CHECK(request.low_watermark_bytes == 100);

  scene.peer = ipv4("10.1.2.3");
  CHECK(value(scene.forwarded(), "X-Forwarded-For") == "192.0.2.9, 10.1.2.3");
}

TEST_CASE("http relay: what lb: hash hashes") {
  using Kind = config::HashOn::Kind;
  struct Case {
    Kind kind;
    const char* name;
    const char* expected;
  };
  const Case cases[] = {
      {Kind::client, "", "198.51.100.1"}, {Kind::header, "x-user", "anna"},
      {Kind::header, "x-none", ""},       {Kind::cookie, "sid", "s1"},
      {Kind::cookie, "id", "7"},          {Kind::cookie, "si", ""},
      {Kind::parameter, "room", "r1"},    {Kind::parameter, "token", "t=1"},
      {Kind::parameter, "none", ""},      {Kind::parameter, "flag", ""},
  };
  RelayScene scene;
  scene.peer = ipv4("198.51.100.1");
  scene.received.headers = {{"X-User", "anna"}, {"Cookie", "sid=s1; flag; id=7"}};
  scene.received.query = "flag&room=other&token=t=1";
  scene.parameters = {{"room", "r1"}};
  for (const Case& c : cases) {
    CAPTURE(c.name);
    scene.config.balance = config::Balance::hash;
    scene.config.hash_on = {c.kind, c.name};
    scene.make_upstream();
    CHECK(scene.forwarded().hash_key == c.expected);
    scene.config.balance = config::Balance::random;
    scene.make_upstream();
    CHECK(scene.forwarded().hash_key.empty());
  }
}

TEST_CASE("http relay: responses") {
  struct Case {
    const char* method;
    const char* response;
    const char* told;
  };
  const Case cases[] = {
      {"GET",
       "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-A: 1\r\nConnection: X-B\r\nX-B: 2\r\n"
       "Keep-Alive: timeout=5\r\n\r\nHello",
       "200 X-A=1 length 5; 'Hello'; end"},
      {"GET",
       "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\nX-Sum: 7\r\n\r\n",
       "200; 'Hello'; end X-Sum=7"},
      {"GET",
       "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 Fine\r\nContent-Length: "
       "0\r\n\r\n",
       "103 Link=</a>; 200 length 0; end"},
      {"HEAD", "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\n", "200 length 5; end"},
      {"HEAD", "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n", "200; end"},
      {"GET", "HTTP/1.1 204 Fine\r\n\r\n", "204; end"},
      {"GET", "HTTP/1.1 304 Fine\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
       "304 ETag=\"x\" length 5; end"},
      {"GET", "HTTP/1.1 302 Fine\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n",
       "302 Location=/y length 0; end"},
      {"GET", "HTTP/1.1 500 Fine\r\nContent-Length: 0\r\n\r\n", "500 length 0; end"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.response);
    RelayScene scene;
    scene.received.method = c.method;
    scene.answer(c.response);
    CHECK(scene.run() == c.told);
    CHECK(scene.client.reason_phrase == "Fine");
    CHECK(scene.client.upstream_name == "up");
    CHECK(scene.client.endpoint_name == scene.server.address());
    CHECK(scene.take_kept());
  }
}

TEST_CASE("http relay: before the head a failure is a refusal, after it the client is cut off") {
  struct Case {
    const char* response;
    const char* told;
    const char* why;
  };
  const Case cases[] = {
      {"", "refuse 502", "connection closed before the response"},
      {"garbage\r\n", "refuse 502", "the status line does not begin with HTTP/1.0 or HTTP/1.1"},
      {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "refuse 502", "a 101 that was not asked for"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHello", "200 length 9; 'Hello'; abort",
       "connection closed within the response"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.response);
    RelayScene scene;
    scene.server.on_data = [&](Peer& up) {
      if (up.ended || !up.has_head()) return;
      up.send(c.response);
      up.close();
    };
    CHECK(scene.run().starts_with(c.told));
    CHECK(scene.client.why == scene.server.address() + ": " + c.why);
    CHECK(scene.client.endpoint_name == scene.server.address());
  }
}

TEST_CASE("http relay: the client hears which way there was no upstream") {
  RelayScene silent;
  silent.begin();
  silent.relay->on_body_end({});
  silent.loop.run_until(
      [&] { return !silent.server.peers.empty() && silent.server.last().has_head(); });
  silent.pass(61'000);
  CHECK(silent.client.told.starts_with("refuse 504"));

  RelayScene full;
  full.config.connections_max = 1;
  full.make_upstream();
  const upstreams::Lease lease = full.lease();
  CHECK(full.run().starts_with("refuse 503"));
  CHECK(full.client.told.find("Retry-After=1") != std::string::npos);

  RelayScene gone;
  gone.config.connect_attempts = 1;
  gone.make_upstream();
  gone.server.stop_listening();
  CHECK(gone.run().starts_with("refuse 502"));
}

TEST_CASE("http relay: an upstream that does not read pauses the client's body") {
  RelayScene scene;
  scene.received.method = "POST";
  scene.received.headers.push_back({"Transfer-Encoding", "chunked"});
  scene.route.buffers.high_watermark_bytes = 128 * 1024;
  scene.route.buffers.low_watermark_bytes = 32 * 1024;
  scene.begin();
  scene.loop.run_until(
      [&] { return !scene.server.peers.empty() && scene.server.last().has_head(); });
  scene.server.last().read(false);
  const std::string piece = numbered(64 * 1024);
  std::size_t sent = 0;
  while (!scene.client.paused) {
    scene.relay->on_body(as_bytes(piece));
    sent += piece.size();
    scene.end_turn();
    REQUIRE(sent < 64 * 1024 * 1024);
  }
  scene.relay->on_body(as_bytes(piece));  // what was on its way pauses nobody once more
  scene.server.last().read(true);
  scene.loop.run_until([&] { return !scene.client.paused; });
  scene.target().headers = {.set = {{"X-Key", "ours"}}, .remove = {"Remote-User"}};
  scene.relay->on_body_end({{"remote-user", "admin"}, {"X-Sum", "7"}, {"x-key", "theirs"}});
  scene.server.on_data = [](Peer& up) {
    if (up.received.ends_with("0\r\nX-Sum: 7\r\n\r\n")) up.send(ok(""));
  };
  scene.loop.run_until([&] { return scene.client.over; });
  CHECK(scene.client.told == "200 length 0; end");
  CHECK(scene.server.last().received.size() > sent);
}

TEST_CASE("http relay: a client that does not read pauses the upstream") {
  RelayScene scene;
  scene.route.buffers.high_watermark_bytes = 128 * 1024;
  const std::string body = numbered(16 * 1024 * 1024);
  scene.answer(ok(body));
  scene.begin();
  scene.relay->on_body_end({});
  scene.loop.run_until([&] { return scene.client.buffered > 128 * 1024; });
  scene.loop.run_for(30);
  CHECK(scene.client.buffered <= 128 * 1024 + net::IoBuffers::receive_bytes);
  CHECK(scene.server.last().unsent() > 0);
  while (!scene.client.over) {
    scene.client.buffered = 0;
    scene.relay->on_drain();
    scene.loop.run_until([&] { return scene.client.over || scene.client.buffered > 128 * 1024; });
  }
  CHECK(scene.client.body == body);
}

TEST_CASE("http relay: a client that has gone takes the upstream's connection with it") {
  RelayScene scene;
  scene.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHello");
  scene.begin();
  scene.relay->on_body_end({});
  scene.loop.run_until([&] { return scene.client.body == "Hello"; });
  scene.relay->on_gone();
  scene.end_turn();  // the relay itself may live for longer
  CHECK(scene.connections() == 0);
  scene.loop.run_until([&] { return scene.server.last().ended; });
  CHECK(scene.client.told == "200 length 9");
}

TEST_CASE("http relay: what follows an early response is nobody's any more") {
  RelayScene scene;
  scene.received.method = "POST";
  scene.received.headers.push_back({"Content-Length", "1000000"});
  scene.answer("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
  scene.begin();
  scene.relay->on_body(as_bytes("some"));
  scene.loop.run_until([&] { return scene.client.over; });
  CHECK(scene.client.told == "413 length 0; end");
  const std::string piece = numbered(512 * 1024);
  scene.relay->on_body(as_bytes(piece));
  scene.relay->on_body_end({});
  CHECK_FALSE(scene.client.paused);
}

// ---- relay_response()

namespace {

// What a websocket bridge does with an upstream that does not switch.
struct Bridge final : upstreams::HttpExchange::Owner {
  void on_informational(const http::ResponseHead&) override {}
  void on_response(const http::ResponseHead& head) override {
    relay = bridges::relay_response(std::move(exchange), head);
  }
  void on_response_body(Bytes) override { FAIL("not the bridge's any more"); }
  void on_response_end(const std::vector<http::Header>&) override { FAIL("nor this"); }
  void on_request_drain() override {}
  void on_exchange_failure(const upstreams::HttpFailure&) override { FAIL("nor this"); }

  std::unique_ptr<upstreams::HttpExchange> exchange;
  std::unique_ptr<Relay> relay;
};

}  // namespace

TEST_CASE("http relay: the answer to an upgrade is passed on whole, its connection is not kept") {
  struct Case {
    const char* response;
    const char* told;
  };
  const Case cases[] = {
      {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nHello",
       "401 WWW-Authenticate=Basic length 5; 'Hello'; end"},
      {"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
       "200 length 0; end"},
      {"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nHello", "403 length 9; 'Hello'; abort"},
  };
  for (const Case& c : cases) {
    RelayScene scene;
    scene.server.on_data = [&](Peer& up) {
      if (up.ended || !up.has_head()) return;
      up.send(c.response);
      up.shutdown();
    };
    Bridge bridge;
    upstreams::HttpRequest request = scene.request("GET");
    request.upgrade = true;
    bridge.exchange = std::make_unique<upstreams::HttpExchange>(
        scene.context, scene.pool, scene.upstream, std::move(request), bridge);
    scene.loop.run_until([&] { return bridge.relay != nullptr; });
    scene.loop.run_for(20);  // the rest has come, and waits
    CHECK(scene.client.told.empty());
    bridge.relay->on_request(scene.client_request(), scene.client);
    bridge.relay->on_body_end({});
    CHECK(scene.client.body.empty());
    scene.loop.run_until([&] { return scene.client.over; });
    CHECK(scene.client.told == c.told);
    CHECK(scene.client.endpoint_name == scene.server.address());
    CHECK_FALSE(scene.take_kept());
  }
}

TEST_CASE("http relay: on_endpoint_down: close breaks off a response in progress, and no other") {
  for (const auto wish : {config::OnEndpointDown::close, config::OnEndpointDown::keep}) {
    RelayScene scene;
    scene.config.on_endpoint_down = wish;
    scene.config.health_check.emplace().unhealthy_threshold = 1;
    scene.make_upstream();
    scene.answer("HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n");
    scene.begin();
    scene.relay->on_body_end({});
    scene.loop.run_until([&] { return !scene.client.body.empty(); });
    FakeRelayClient waiting;  // has no answer yet
    scene.server.on_data = {};
    const std::unique_ptr<Relay> other = scene.factory->create();
    other->on_request(scene.client_request(), waiting);
    other->on_body_end({});
    scene.loop.run_until([&] { return scene.server.peers.size() == 2; });

    scene.upstream->report_check(*scene.upstream->endpoints().front(), false);
    scene.loop.run_for(20);
    if (wish == config::OnEndpointDown::close) {
      CHECK(scene.client.told == "200; 'data: 1\n\n'; abort");
      CHECK(scene.client.why == scene.server.address() + ": on_endpoint_down: close");
      CHECK(scene.server.peers.front()->ended);
    } else {
      CHECK(scene.client.told == "200");
      CHECK_FALSE(scene.server.peers.front()->ended);
    }
    CHECK(waiting.told.empty());
  }
}
