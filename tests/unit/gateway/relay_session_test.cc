// A client's plain request while a relay answers it: both bodies, and who waits for whom.
#include "relay_session.h"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>

#include "http/request_parser.h"
#include "support/fake_transport.h"

using namespace sluice;
using namespace sluice::test;

namespace {

// What the relay was told, and what it does: "request GET /x; body 'ab'; end; gone".
struct Script {
  std::string told;
  RelayClient* client = nullptr;
  std::function<void(RelayClient&)> on_request = [](RelayClient&) {};
  std::function<void(RelayClient&)> on_body_end = [](RelayClient&) {};

  void tell(const std::string& what) { told += (told.empty() ? "" : "; ") + what; }
};

class ScriptedRelay final : public Relay {
 public:
  explicit ScriptedRelay(Script& script) : script_(script) {}
  void on_request(const ClientRequest& request, RelayClient& client) override {
    script_.client = &client;
    script_.tell("request " + request.request.method + " " + request.request.path);
    script_.on_request(client);
  }
  void on_body(Bytes piece) override {
    const auto text = as_text(piece);
    script_.tell(text.size() > 20 ? "body (" + std::to_string(text.size()) + ")"
                                  : "body '" + std::string(text) + "'");
  }
  void on_body_end(const std::vector<http::Header>& trailers) override {
    script_.tell(trailers.empty() ? "end" : "end " + trailers[0].name + "=" + trailers[0].value);
    script_.on_body_end(*script_.client);
  }
  void on_drain() override { script_.tell("drain"); }
  void on_gone() override { script_.tell("gone"); }

 private:
  Script& script_;
};

// One request on a connection whose kernel is a number.
class Exchanged final : private RelaySession::Owner {
 public:
  explicit Exchanged(const std::string& request, bool close_after = false)
      : parser({.headers_max = 100, .head_bytes_max = 8192, .target_bytes_max = 1024}) {
    std::size_t consumed = 0;
    REQUIRE(parser.feed(as_bytes(request), consumed) == http::RequestParser::Status::complete);
    buffers.high_watermark_bytes = 100'000;
    buffers.low_watermark_bytes = 10'000;
    session = std::make_unique<RelaySession>(
        std::make_unique<ScriptedRelay>(script),
        ClientRequest{.request = parser.request(),
                      .rest = parser.request().path,
                      .parameters = parameters,
                      .client = {},
                      .secure = false},
        transport,
        RelaySession::Settings{.buffers = buffers, .close_after = close_after, .connection_id = 7},
        static_cast<RelaySession::Owner&>(*this));
    if (consumed < request.size()) session->receive(as_bytes(request).subspan(consumed));
  }

  void start() {
    session->start();
    turn();
  }
  void receive(const std::string& bytes) {
    session->receive(as_bytes(bytes));
    turn();
  }
  void turn() {
    flush();
    for (int i = 0; woken && i < 8; ++i) {
      woken = false;
      session->turn_end();
      flush();
    }
  }
  void client_reads() {
    transport.room = FakeTransport::unlimited;
    transport.flush();
    turn();
  }
  void client_ends() {
    session->on_client_end();
    turn();
  }
  std::string got() { return std::exchange(transport.taken, {}); }
  std::string told() { return std::exchange(script.told, {}); }
  RelayClient& client() { return *script.client; }

  http::Response head(int status) {
    http::Response response;
    response.status = status;
    return response;
  }

  Script script;
  http::RequestParser parser;
  std::vector<std::pair<std::string, std::string>> parameters;
  config::Buffers buffers;
  ChunkPool pool;
  FakeTransport transport{pool};
  std::unique_ptr<RelaySession> session;
  bool woken = false;
  std::string responses;  // as told to the owner
  std::string date;

 private:
  void flush() {
    if (!transport.blocked()) transport.flush();
    session->on_flushed();
  }
  void on_secure() override {}
  void on_receive(MutableBytes) override {}
  void on_end() override {}
  void on_sent() override {}
  void on_failure(net::FailureKind, const Error&) override {}
  void on_relay_wake() override { woken = true; }
  void on_relay_upstream(std::string_view, std::string_view) override {}
  std::string_view http_date() override { return date; }
  void on_relay_response(int status, std::string_view why) override {
    responses += std::to_string(status) + (why.empty() ? "" : " ") + std::string(why) + ";";
  }
};

using State = RelaySession::State;
const std::string get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

}  // namespace

TEST_CASE("a request without a body is whole at once") {
  Exchanged exchange(get);
  exchange.start();
  CHECK(exchange.told() == "request GET /x; end");
  CHECK(exchange.transport.reading);
}

TEST_CASE("a request that is not started begins at the turn's end, and waits with its body") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
  exchange.receive("cd");
  CHECK(exchange.told().empty());
  exchange.woken = true;
  exchange.turn();
  CHECK(exchange.told() == "request POST /x; body 'abcd'; end");
  // Nobody heard of a request that never began.
  Exchanged never(get);
  CHECK(never.session->end() != nullptr);
  CHECK(never.told().empty());
}

TEST_CASE("what comes behind a request without a body is the next one's, early as it is") {
  Exchanged exchange(get + "GET /next");
  exchange.start();
  exchange.receive(" HTTP/1.1");
  CHECK(exchange.told() == "request GET /x; end");
  CHECK(as_text(exchange.session->take_rest()) == "GET /next HTTP/1.1");
}

TEST_CASE("a relay that pauses before a body that is not there hears of its end when it resumes") {
  const struct {
    const char* length;
    const char* behind;
  } rows[] = {{"", ""}, {"", "GET /next"}, {"Content-Length: 0\r\n", "GET /next"}};
  for (const auto& row : rows) {
    Exchanged exchange("GET /x HTTP/1.1\r\nHost: a\r\n" + std::string(row.length) + "\r\n" +
                       row.behind);
    exchange.script.on_request = [](RelayClient& client) { client.pause_body(); };
    exchange.start();
    CHECK(exchange.told() == "request GET /x");
    CHECK(exchange.transport.reading);  // so that a client that leaves is noticed
    CHECK_FALSE(exchange.session->waits_for_client());
    exchange.client().resume_body();
    exchange.turn();
    CHECK(exchange.told() == "end");
    CHECK(as_text(exchange.session->take_rest()) == row.behind);
  }
}

TEST_CASE("RFC 9112 8: a body that is cut off is answered with 400, at once") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  exchange.start();
  exchange.client_ends();
  CHECK(exchange.told() == "request POST /x; body 'ab'");
  CHECK(exchange.got().starts_with("HTTP/1.1 400 "));
  CHECK(exchange.session->state() == State::complete);
  CHECK(exchange.session->closes());
  CHECK(exchange.responses == "400 request body cut off;");
}

TEST_CASE("a client that closes its direction behind its request gets the answer") {
  for (const char* request : {"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
                              "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"}) {
    Exchanged exchange(request);
    exchange.start();
    exchange.client_ends();
    CHECK(exchange.session->state() == State::answering);
    CHECK(exchange.told().ends_with("end"));
  }
}

TEST_CASE("a client that closes its direction while its body is paused has sent what is held") {
  for (const bool whole : {true, false}) {
    CAPTURE(whole);
    Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    exchange.script.on_request = [](RelayClient& client) { client.pause_body(); };
    exchange.start();
    exchange.receive(whole ? "abcd" : "abc");
    exchange.client_ends();
    CHECK(exchange.session->state() == State::answering);
    exchange.client().resume_body();
    exchange.turn();
    CHECK(exchange.told() ==
          (whole ? "request POST /x; body 'abcd'; end" : "request POST /x; body 'abc'"));
    CHECK(exchange.session->state() == (whole ? State::answering : State::complete));
  }
}

TEST_CASE("a client that is being answered may leave its body unfinished, and gets the rest") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  exchange.start();
  auto head = exchange.head(413);
  head.content_length = 4;
  exchange.client().respond(head);
  exchange.turn();
  exchange.client_ends();
  CHECK(exchange.session->state() == State::answering);
  exchange.client().send_body(as_bytes("much"));
  exchange.client().end_response({});
  exchange.turn();
  CHECK(exchange.got().ends_with("much"));
  CHECK(exchange.session->state() == State::complete);
}

TEST_CASE("a body comes in pieces, and what follows it is the next request's") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  exchange.start();
  CHECK(exchange.told() == "request POST /x; body 'ab'");
  exchange.receive("cdeGET /next");
  CHECK(exchange.told() == "body 'cde'; end");
  CHECK(as_text(exchange.session->take_rest()) == "GET /next");
}

TEST_CASE("a chunked body is taken apart, with its trailers") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  exchange.start();
  exchange.receive("3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
  CHECK(exchange.told() == "request POST /x; body 'abc'; end X-Sum=1");
}

TEST_CASE("a malformed chunk is answered with 400, and the connection ends") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  exchange.start();
  exchange.receive("0x3\r\nabc\r\n");
  CHECK(exchange.got().starts_with("HTTP/1.1 400 "));
  CHECK(exchange.session->state() == State::complete);
  CHECK(exchange.session->closes());
}

TEST_CASE("a paused body is not read, and goes on where it stopped") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
  exchange.script.on_request = [](RelayClient& client) { client.pause_body(); };
  exchange.start();
  CHECK_FALSE(exchange.transport.reading);
  exchange.receive("ab");  // was read already
  CHECK(exchange.told() == "request POST /x");
  CHECK_FALSE(exchange.session->waits_for_client());
  exchange.client().resume_body();
  exchange.turn();
  CHECK(exchange.told() == "body 'ab'");
  CHECK(exchange.transport.reading);
  CHECK(exchange.session->waits_for_client());
  exchange.receive("cd");
  CHECK(exchange.told() == "body 'cd'; end");
}

TEST_CASE("RFC 9110 10.1.1: who waits for 100 gets it, unless the relay has answered") {
  const std::string request =
      "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
  Exchanged waits(request);
  waits.start();
  CHECK(waits.got() == "HTTP/1.1 100 Continue\r\n\r\n");
  Exchanged refused(request);
  refused.script.on_request = [](RelayClient& client) {
    client.refuse(http::refusal(503, "full"), "full");
  };
  refused.start();
  CHECK(refused.got().starts_with("HTTP/1.1 503 "));
  CHECK(refused.session->closes());  // the body was not read
  CHECK(refused.responses == "503 full;");
  Exchanged begun(request);
  begun.script.on_request = [&](RelayClient& client) { client.respond(begun.head(200)); };
  begun.start();
  CHECK(begun.got().find("100 Continue") == std::string::npos);
}

TEST_CASE("a refusal leaves the connection open, if no body is on its way") {
  for (const bool at_once : {true, false}) {
    CAPTURE(at_once);
    Exchanged exchange(get);
    const auto refuse = [](RelayClient& client) {
      client.refuse(http::refusal(502, "no upstream"), "refused");
    };
    if (at_once) exchange.script.on_request = refuse;
    exchange.start();
    if (!at_once) refuse(exchange.client());
    exchange.turn();
    CHECK(exchange.got().find("Connection: close") == std::string::npos);
    CHECK_FALSE(exchange.session->closes());
  }
}

TEST_CASE("the date is that of the answer, not of the request") {
  Exchanged exchange(get);
  exchange.date = "Sun, 06 Nov 1994 08:49:37 GMT";
  exchange.start();
  exchange.date = "Mon, 07 Nov 1994 08:49:37 GMT";
  exchange.client().respond(exchange.head(200));
  exchange.turn();
  CHECK(exchange.got().find("Date: Mon, 07 Nov 1994") != std::string::npos);
}

TEST_CASE("a body of known length is passed on as it is") {
  Exchanged exchange(get);
  exchange.start();
  auto head = exchange.head(200);
  head.headers = {{"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}};
  head.content_length = 4;
  exchange.client().respond(head);
  exchange.client().send_body(as_bytes("ab"));
  exchange.client().send_body(as_bytes("cd"));
  exchange.client().end_response({});
  exchange.turn();
  CHECK(exchange.got() ==
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nabcd");
  CHECK(exchange.session->state() == State::complete);
  CHECK_FALSE(exchange.session->closes());
  CHECK(exchange.responses == "200;");
}

TEST_CASE("a body of unknown length is chunked, with trailers") {
  Exchanged exchange(get);
  exchange.start();
  exchange.client().respond(exchange.head(200));
  exchange.turn();
  CHECK(exchange.got() == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  exchange.client().send_body(as_bytes("data: 1\n\n"));
  exchange.turn();
  CHECK(exchange.got() == "9\r\ndata: 1\n\n\r\n");  // at once: server-sent events
  exchange.client().send_body({});
  exchange.client().end_response({{"X-Sum", "1"}});
  exchange.turn();
  CHECK(exchange.got() == "0\r\nX-Sum: 1\r\n\r\n");
}

TEST_CASE("RFC 9112 6.1: an HTTP/1.0 client gets no chunks: the connection's end is the body's") {
  Exchanged exchange("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  exchange.start();
  exchange.client().inform(exchange.head(103));  // nor 1xx
  exchange.client().respond(exchange.head(200));
  exchange.client().send_body(as_bytes("abc"));
  exchange.client().end_response({});
  exchange.turn();
  CHECK(exchange.got() == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
  CHECK(exchange.session->closes());
}

TEST_CASE("HEAD, 204 and 304 have no body, whatever the upstream sends") {
  const struct {
    const char* method;
    int status;
  } rows[] = {{"HEAD", 200}, {"GET", 204}, {"GET", 304}};
  for (const auto& row : rows) {
    CAPTURE(row.status);
    Exchanged exchange(std::string(row.method) + " /x HTTP/1.1\r\nHost: a\r\n\r\n");
    exchange.start();
    exchange.client().respond(exchange.head(row.status));
    exchange.client().send_body(as_bytes("abc"));
    exchange.client().end_response({});
    exchange.turn();
    const std::string got = exchange.got();
    CHECK(got.ends_with("\r\n\r\n"));
    CHECK(got.find("abc") == std::string::npos);
    CHECK_FALSE(exchange.session->closes());
  }
}

TEST_CASE("1xx responses come before the final one") {
  Exchanged exchange(get);
  exchange.start();
  auto hints = exchange.head(103);
  hints.headers = {{"Link", "</a.css>; rel=preload"}};
  exchange.client().inform(hints);
  exchange.turn();
  CHECK(exchange.got().starts_with("HTTP/1.1 103 "));
  CHECK(exchange.responses.empty());
}

TEST_CASE("an early response ends the connection: nobody reads the rest of the body") {
  Exchanged exchange("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab");
  exchange.start();
  auto head = exchange.head(413);
  head.content_length = 0;
  exchange.client().respond(head);
  exchange.client().end_response({});
  exchange.turn();
  CHECK(exchange.got().find("Connection: close\r\n") != std::string::npos);
  CHECK(exchange.session->closes());
}

TEST_CASE("a response that cannot be completed breaks the connection off") {
  Exchanged exchange(get);
  exchange.start();
  exchange.client().respond(exchange.head(200));
  exchange.client().abort_response("upstream lost");
  CHECK(exchange.session->state() == State::broken);
  CHECK(exchange.session->why_broken() == "upstream lost");
}

TEST_CASE("a field that could be read as two lines is not passed on") {
  Exchanged exchange(get);
  exchange.start();
  auto head = exchange.head(200);
  head.headers = {{"X", "a\r\nY: b"}};
  exchange.client().respond(head);
  exchange.turn();
  CHECK(exchange.got().starts_with("HTTP/1.1 502 "));
}

TEST_CASE("the relay hears when a slow client has caught up, once") {
  Exchanged exchange(get);
  exchange.start();
  exchange.told();
  exchange.transport.room = 0;
  exchange.client().respond(exchange.head(200));
  exchange.client().send_body(as_bytes(std::string(150'000, 'x')));
  exchange.turn();
  CHECK(exchange.client().buffered_amount() > 150'000);
  CHECK(exchange.session->waits_for_client());
  CHECK(exchange.told().empty());
  exchange.client_reads();
  CHECK(exchange.told() == "drain");
  exchange.turn();
  CHECK(exchange.told().empty());
}

TEST_CASE("the relay hears that there is room even if the kernel took everything at once") {
  // Its watermark is lower than what is gathered before the kernel is asked.
  Exchanged exchange(get);
  exchange.buffers.high_watermark_bytes = 1'000;
  exchange.buffers.low_watermark_bytes = 100;
  exchange.start();
  exchange.told();
  exchange.client().respond(exchange.head(200));
  exchange.client().send_body(as_bytes(std::string(2'000, 'x')));
  CHECK(exchange.client().buffered_amount() > 1'000);
  CHECK(exchange.told().empty());
  exchange.turn();
  CHECK(exchange.told() == "drain");
}

TEST_CASE("a relay that finds more waiting than the high watermark hears when it has left") {
  // Answers to earlier requests of the connection.
  Exchanged exchange(get);
  exchange.transport.room = 0;
  exchange.transport.output().append(as_bytes(std::string(150'000, 'x')));
  exchange.start();
  CHECK(exchange.client().buffered_amount() > exchange.buffers.high_watermark_bytes);
  exchange.told();
  exchange.client_reads();
  CHECK(exchange.told() == "drain");
}

TEST_CASE("a client that lets us wait gets 408, or is broken off if the response has begun") {
  Exchanged waits("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
  waits.start();
  waits.session->time_out();
  waits.turn();
  CHECK(waits.got().starts_with("HTTP/1.1 408 "));
  CHECK(waits.session->closes());
  Exchanged begun(get);
  begun.start();
  begun.client().respond(begun.head(200));
  begun.session->time_out();
  CHECK(begun.session->state() == State::broken);
  // It has sent everything: if somebody has to go on, it is not asked for that.
  Exchanged whole(get);
  whole.start();
  whole.client_ends();
  whole.session->time_out();
  CHECK(whole.session->state() == State::broken);
  CHECK(whole.got().empty());
}

TEST_CASE("the relay is told the end once, and nothing after it") {
  Exchanged exchange(get);
  exchange.start();
  exchange.told();
  exchange.client().refuse(http::refusal(502, "no upstream"), "refused");
  CHECK(exchange.told().empty());  // not from inside of its call
  const auto relay = exchange.session->end();
  CHECK(relay != nullptr);
  CHECK(exchange.told() == "gone");
  CHECK(exchange.session->end() == nullptr);
  CHECK(exchange.told().empty());
}
