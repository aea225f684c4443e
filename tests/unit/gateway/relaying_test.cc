// Plain requests that a relay answers: real sockets, relays that the test plays (relay.h).
#include "house.h"
#include "support/fake_transport.h"

using namespace sluice;
using namespace sluice::test;

namespace {

void hurry(config::Config& config) {
  config.requests.keep_alive_timeout_ms = 200;
}

// Until the connection has gone, for a client that is not to hear of it.
void until_gone(House& house) {
  house.until([&] { return house.worker->load() == 0; });
}

}  // namespace

TEST_CASE("relaying: a request without a body, answered at once or later") {
  for (const bool later : {false, true}) {
    CAPTURE(later);
    House house;
    if (!later) house.relay.on_body_end = [](RelayClient& client) { answer(client, "hello"); };
    const auto client = house.connect();
    client->send(plain());
    if (later) {
      house.until_told(house.relay, "GET /echo; end");
      answer(*house.relay.last, "hello");  // outside of all events: it leaves all the same
    }
    const std::string got = house.get(*client, [](auto& text) { return text.ends_with("hello"); });
    CHECK(got.starts_with("HTTP/1.1 200 OK\r\n"));
    house.until_told(house.relay, "GET /echo; end; gone");
    house.until([&] { return house.relay.alive == 0; });
    CHECK(house.worker->load() == 1);  // the connection stays
  }
}

TEST_CASE("relaying: a body goes through in its pieces, and so does the answer") {
  House house;
  const auto client = house.connect();
  client->send(post("ab", 4));
  house.until_told(house.relay, "POST /echo; body 'ab'");
  http::Response head;
  house.relay.last->respond(head);
  house.relay.last->send_body(as_bytes("one"));
  CHECK(house.get(*client, [](auto& text) { return text.ends_with("one\r\n"); })
            .ends_with("3\r\none\r\n"));
  client->send("cd");
  house.until_told(house.relay, "POST /echo; body 'ab'; body 'cd'; end");
  house.relay.last->send_body(as_bytes("two"));
  house.relay.last->end_response();
  CHECK(house.all(*client) == "3\r\ntwo\r\n0\r\n\r\n");
}

TEST_CASE("relaying: requests behind each other are answered in their order, bodies between them") {
  // Whole and in pieces, through relays and from the route that answers by itself.
  const std::string requests = post("first") + plain("/letters/b") + plain() + post("2nd", 3) +
                               plain("/letters/c", "Connection: close\r\n");
  for (const std::size_t piece : {requests.size(), std::size_t{7}, std::size_t{100}}) {
    CAPTURE(piece);
    House house;
    int number = 0;
    house.relay.on_body_end = [&](RelayClient& client) {
      answer(client, "<answer " + std::to_string(++number) + ">");
    };
    const auto client = house.connect();
    for (std::size_t at = 0; at < requests.size(); at += piece) {
      client->send(requests.substr(at, piece));
      house.loop.run_for(0);
    }
    const std::string got = house.all(*client);
    std::size_t at = 0;
    for (const std::string part : {"<answer 1>", "bbbb", "<answer 2>", "<answer 3>", "cccc"}) {
      CAPTURE(part);
      at = got.find(part, at);
      REQUIRE(at != std::string::npos);
    }
    CHECK(got.size() > 2 * House::letters);
    if (piece == requests.size()) {
      CHECK(house.relay.told ==
            "POST /echo; body 'first'; end; gone; GET /echo; end; gone; "
            "POST /echo; body '2nd'; end; gone");
    }
  }
}

TEST_CASE(
    "relaying: what comes behind a body waits for the answer, and the end of the stream too") {
  House house;
  const auto client = house.connect();
  client->send(post("one") + post("two"));
  client->shutdown();
  house.until_told(house.relay, "POST /echo; body 'one'; end");
  house.loop.run_for(20);
  CHECK(house.relay.told == "POST /echo; body 'one'; end");
  answer(*house.relay.last, "1");
  house.until_told(house.relay, "POST /echo; body 'one'; end; gone; POST /echo; body 'two'; end");
  answer(*house.relay.last, "2");
  const std::string got = house.all(*client);
  CHECK(got.ends_with("2"));
  CHECK(client->error == 0);
}

TEST_CASE("relaying: a socket may be opened behind a relayed request") {
  House house;
  house.relay.on_body_end = [](RelayClient& client) { answer(client, "plain"); };
  const auto client = house.connect();
  client->send(post("body") + upgrade() + house.peer.text("Hi"));
  const std::string got = house.get(*client, [](auto& text) { return text.ends_with("Hi"); });
  CHECK(got.find("plainHTTP/1.1 101 ") != std::string::npos);
  CHECK(house.script.told == "open /echo; text 'Hi'");
}

TEST_CASE("relaying: a socket behind a relayed request does without that one's tcp_user_timeout") {
  House house;
  house.relay.on_body_end = [](RelayClient& client) { answer(client, "plain"); };
  auto made = std::make_unique<FakeTransport>(house.worker->buffers().pool);
  FakeTransport& transport = *made;
  house.worker->add(std::move(made), net::Endpoint());
  const auto send = [&](std::string bytes) {
    transport.owner->on_receive({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  };
  send(plain());
  house.until_told(house.relay, "GET /echo; end; gone");
  CHECK(transport.user_timeout_ms != 0);
  send(upgrade());
  house.until_told(house.script, "open /echo");
  CHECK(transport.user_timeout_ms == 0);
  transport.owner->on_failure(net::FailureKind::reset, Error{"gone"});
  until_gone(house);
}

TEST_CASE("relaying: a socket behind a relayed request hears that its client closed meanwhile") {
  for (const bool at_once : {true, false}) {
    CAPTURE(at_once);
    House house;
    if (!at_once) house.script.on_open = [](ClientSocket&, const UpgradeRequest&) {};
    const auto client = house.connect();
    client->send(post("body") + upgrade() + (at_once ? house.peer.text("Hi") : ""));
    client->shutdown();
    house.until_told(house.relay, "POST /echo; body 'body'; end");
    house.loop.run_for(20);  // the end of the stream comes while the relay answers
    answer(*house.relay.last, "plain");
    house.until_told(house.script, at_once ? "open /echo; text 'Hi'; close 1006 '' unclean"
                                           : "open /echo; close 1006 '' unclean");
    house.all(*client);
  }
}

TEST_CASE("relaying: a kept connection has its deadlines again") {
  House idle(hurry);
  idle.relay.on_body_end = [](RelayClient& client) { answer(client, "x"); };
  auto client = idle.connect();
  client->send(plain());
  CHECK(idle.all(*client).ends_with("x"));
  CHECK(client->error == 0);

  House half([](config::Config& config) { config.requests.handshake_timeout_ms = 200; });
  half.relay.on_body_end = idle.relay.on_body_end;
  client = half.connect();
  client->send(plain() + "GET /echo HT");
  CHECK(half.all(*client).find("xHTTP/1.1 408 ") != std::string::npos);
}

TEST_CASE("relaying: a request whose body waits for the upstream is dropped if memory is short") {
  House house;
  const auto client = house.connect();
  client->send(post("body", 10'000));
  house.until_told(house.relay, "POST /echo; body 'body'");
  house.worker->evict(1);
  CHECK(house.relay.alive == 1);  // it is not its client for whom much waits
  house.relay.held_bytes = 1024 * 1024;
  house.worker->evict(1);
  until_gone(house);
  CHECK(house.relay.alive == 0);
}

// ---- Clients that leave

TEST_CASE("relaying: a client that is gone is noticed at once, in whatever it was") {
  const struct {
    const char* what;
    std::string request;
    bool respond;
  } rows[] = {
      {"nothing said yet", plain(), false},
      {"in the midst of its body", post("ab", 4), false},
      {"in the midst of the answer", plain(), true},
      {"with another request behind it", plain() + plain(), false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    House house;
    const auto client = house.connect();
    client->send(row.request);
    house.until([&] { return house.relay.has("end") || house.relay.has("'ab'"); });
    if (row.respond) {
      house.relay.last->respond({});
      house.relay.last->send_body(as_bytes("so far"));
      (void)house.get(*client, [](auto& text) { return text.ends_with("so far\r\n"); });
    }
    client->reset();
    until_gone(house);
    CHECK(house.relay.told.ends_with("; gone"));
    CHECK(house.relay.alive == 0);
  }
}

TEST_CASE("relaying: a client that closes its direction in a stream does not get an orderly end") {
  House house;
  const auto client = house.connect();
  client->send("GET /echo HTTP/1.0\r\nHost: example.org\r\n\r\n");
  house.until([&] { return house.relay.has("end"); });
  house.relay.last->respond({});
  house.relay.last->send_body(as_bytes("so far"));
  (void)house.get(*client, [](auto& text) { return text.ends_with("so far"); });
  client->shutdown();  // the end of the stream would be that of the body (RFC 9112 6.3)
  (void)house.all(*client);
  CHECK(client->error == ECONNRESET);
}

TEST_CASE("relaying: a relay that goes on answering a client which has gone harms nobody") {
  House house;
  const auto client = house.connect();
  client->send(plain());
  house.until_told(house.relay, "GET /echo; end");
  // In the same turn: the relay writes, and the kernel says that nobody is there.
  client->reset();
  RelayClient& seen = *house.relay.last;
  seen.respond({});
  for (int i = 0; i < 5; ++i) seen.send_body(as_bytes(std::string(100'000, 'x')));
  seen.end_response();
  until_gone(house);
  CHECK(house.relay.told == "GET /echo; end; gone");
}

TEST_CASE(
    "relaying: a client that closes its direction in the midst of its body gets 400 at once") {
  House house;
  const auto client = house.connect();
  client->send(post("ab", 4));
  house.until_told(house.relay, "POST /echo; body 'ab'");
  client->shutdown();
  CHECK(house.all(*client).starts_with("HTTP/1.1 400 "));
  CHECK(house.relay.told == "POST /echo; body 'ab'; gone");
  CHECK(client->error == 0);
}

TEST_CASE("relaying: a request that is cut off behind another one is answered too") {
  House house;
  const auto client = house.connect();
  client->send(plain() + post("ab", 4));
  client->shutdown();
  house.until_told(house.relay, "GET /echo; end");
  answer(*house.relay.last, "1");
  const std::string got = house.all(*client);
  CHECK(got.find("1HTTP/1.1 400 ") != std::string::npos);
  CHECK(house.relay.told == "GET /echo; end; gone; POST /echo; body 'ab'; gone");
}

TEST_CASE("relaying: a client that closed its direction is given up if it gets nothing for long") {
  House house(hurry);
  const auto client = house.connect();
  client->send(plain());
  client->shutdown();
  CHECK(house.all(*client).empty());
  CHECK(client->error == ECONNRESET);
  CHECK(house.relay.told == "GET /echo; end; gone");
}

TEST_CASE("relaying: a client that does not send its body gets 408") {
  House house(hurry);
  const auto client = house.connect();
  client->send(post("ab", 4));
  CHECK(house.all(*client).starts_with("HTTP/1.1 408 "));
  CHECK(house.relay.told == "POST /echo; body 'ab'; gone");
}

TEST_CASE("relaying: while the relay lets the client wait, the client has all the time") {
  House house(hurry);
  house.relay.on_request = [](RelayClient& client, const ClientRequest&) { client.pause_body(); };
  const auto client = house.connect();
  client->send(post("", 2));
  house.until_told(house.relay, "POST /echo");
  house.loop.run_for(500);
  house.relay.last->resume_body();
  client->send("ab");
  house.until_told(house.relay, "POST /echo; body 'ab'; end");
  house.loop.run_for(500);
  answer(*house.relay.last, "done");
  CHECK(house.all(*client).ends_with("done"));
}

TEST_CASE("relaying: a client that does not read its answer is broken off") {
  House house(hurry);
  house.relay.on_body_end = [](RelayClient& client) {
    client.respond({});
    while (client.buffered_amount() <= 256 * 1024) {
      client.send_body(as_bytes(std::string(64 * 1024, 'x')));
    }
  };
  const auto client = house.connect();
  client->send(plain());
  until_gone(house);
  CHECK(house.relay.told == "GET /echo; end; gone");
  CHECK(house.all(*client).size() < 16 * 1024 * 1024);
  CHECK(client->error == ECONNRESET);
}

// ---- The relay's side

TEST_CASE("relaying: large answers wait for the client, whatever the watermarks") {
  for (const std::uint64_t high :
       {std::uint64_t{4'000}, std::uint64_t{50'000}, std::uint64_t{500'000}}) {
    CAPTURE(high);
    House house([&](config::Config& config) {
      config.routes[0].buffers.high_watermark_bytes = high;
      config.routes[0].buffers.low_watermark_bytes = high / 4;
    });
    const std::string body = numbered(3'000'000);
    std::size_t sent = 0;
    std::size_t waiting_max = 0;
    const auto go_on = [&](RelayClient& client) {
      while (sent < body.size() && client.buffered_amount() <= high) {
        const std::string_view piece = std::string_view(body).substr(sent, 10'000);
        client.send_body(as_bytes(piece));
        sent += piece.size();
        waiting_max = std::max(waiting_max, client.buffered_amount());
      }
      if (sent == body.size()) client.end_response();
    };
    house.relay.on_drain = go_on;
    house.relay.on_body_end = [&](RelayClient& client) {
      http::Response head;
      head.content_length = body.size();
      client.respond(head);
      go_on(client);
    };
    const auto client = house.connect();
    client->send(plain("/echo", "Connection: close\r\n"));
    const std::string got = house.all(*client);
    CHECK(got.substr(got.find("\r\n\r\n") + 4) == body);
    CHECK(waiting_max <= high + 11'000);
    CHECK(house.relay.has("drain"));
  }
}

TEST_CASE("relaying: a large body waits for the relay, and what the client sends stays with it") {
  House house;
  const std::string body = numbered(1'000'000);
  std::size_t taken = 0;
  // One piece a turn.
  house.relay.on_body = [&](RelayClient& client) { client.pause_body(); };
  const auto client = house.connect();
  client->send(plain("/echo", "Content-Length: 1000000\r\n", "POST"));
  house.until([&] { return house.relay.last != nullptr; });
  std::size_t sent = 0;
  house.until([&] {
    const ssize_t count =
        ::send(client->fd(), body.data() + sent, body.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<std::size_t>(count);
    if (house.relay.last != nullptr) house.relay.last->resume_body();
    return house.relay.has("end");
  });
  // "body (65536 bytes); body (…": every byte once.
  std::string_view rest = house.relay.told;
  for (std::size_t at = rest.find("("); at != std::string_view::npos; at = rest.find("(")) {
    rest.remove_prefix(at + 1);
    taken += std::stoul(std::string(rest.substr(0, rest.find(' '))));
  }
  CHECK(taken <= body.size());
  CHECK(taken >= body.size() - 60);  // a short piece is shown in full
  answer(*house.relay.last, "got it");
  CHECK(house.get(*client, [](auto& text) { return text.ends_with("got it"); }).size() > 0);
}

TEST_CASE("relaying: an answer that breaks off looks like an error to the client") {
  House house;
  const auto client = house.connect();
  client->send(plain());
  house.until_told(house.relay, "GET /echo; end");
  house.relay.last->respond({});
  house.relay.last->send_body(as_bytes("half"));
  (void)house.get(*client, [](auto& text) { return text.ends_with("half\r\n"); });
  house.relay.last->abort_response("upstream lost");
  CHECK(house.all(*client).empty());
  CHECK(client->error == ECONNRESET);
  CHECK(house.relay.told == "GET /echo; end; gone");
}

TEST_CASE("relaying: a refusal is an answer like any other, and the next request is served") {
  House house;
  house.relay.on_request = [](RelayClient& client, const ClientRequest& request) {
    if (request.request.method == "GET") client.refuse(http::refusal(502, "no"), "no upstream");
  };
  house.relay.on_body_end = [](RelayClient& client) { answer(client, "yes"); };
  const auto client = house.connect();
  client->send(plain() + post("x"));
  const std::string got = house.get(*client, [](auto& text) { return text.ends_with("yes"); });
  CHECK(got.starts_with("HTTP/1.1 502 "));
  CHECK(house.relay.told == "GET /echo; gone; POST /echo; body 'x'; end; gone");
}

TEST_CASE("relaying: an early answer ends the connection, and the client gets to see it") {
  House house;
  house.relay.on_request = [](RelayClient& client, const ClientRequest&) {
    answer(client, "too much", 413);
  };
  const auto client = house.connect();
  client->send(post(std::string(100'000, 'x'), 10'000'000));
  const std::string got = house.all(*client);
  CHECK(got.starts_with("HTTP/1.1 413 "));
  CHECK(got.ends_with("too much"));
  CHECK(client->error == 0);
}

// ---- The end of the process

TEST_CASE("relaying: drain() lets the answer be completed, then the connection ends") {
  House house;
  const auto client = house.connect();
  client->send(plain());
  house.until_told(house.relay, "GET /echo; end");
  bool empty = false;
  house.worker->drain(10'000, [&] { empty = true; });
  house.loop.run_for(20);
  CHECK_FALSE(empty);
  answer(*house.relay.last, "last words");
  const std::string got = house.all(*client);
  CHECK(got.find("Connection: close\r\n") != std::string::npos);
  CHECK(got.ends_with("last words"));
  client->close();
  house.until([&] { return empty; });
}

TEST_CASE("relaying: what is not answered when the drain is over is cut off, with a reset") {
  House house;
  const auto client = house.connect();
  client->send(post("ab", 4));
  house.until_told(house.relay, "POST /echo; body 'ab'");
  bool empty = false;
  house.worker->drain(50, [&] { empty = true; });
  house.until([&] { return empty; });
  CHECK(house.relay.told == "POST /echo; body 'ab'; gone");
  (void)client->read(1);
  CHECK(client->error == ECONNRESET);
}
