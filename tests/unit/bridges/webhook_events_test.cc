// WebSocket-over-HTTP: what the backend gets, byte for byte, and what its answers do.
#include <doctest/doctest.h>

#include "base/crypto.h"
#include "bridges/events.h"
#include "bridges/grip.h"
#include "support/log_lines.h"
#include "webhook_scene.h"

using namespace sluice;
using namespace sluice::bridges;
using namespace std::literals;

namespace {

// How the client was ended: "1000 'bye'", with "abort" before it, or "not".
std::string ending(const WebhookScene& scene) {
  if (!scene.socket.ending) return "not";
  return (scene.socket.aborted ? "abort " : "") + std::to_string(scene.socket.ending->code) + " '" +
         scene.socket.ending->text + "'";
}

int rejected(const WebhookScene& scene) {
  return scene.socket.rejected_response ? scene.socket.rejected_response->status : 0;
}

}  // namespace

// ---- Opening

TEST_CASE("the request that opens") {
  config::WebhookTarget target;
  target.grip_key = "base64:Y2hhbmdlbWU=";
  target.grip_issuer = "me";
  WebhookScene scene(target);
  http::Request& handshake = scene.socket.http_request;
  handshake.target = "/chat?a=1&b";
  handshake.query = "a=1&b";
  for (const auto& header : std::vector<http::Header>{{"Origin", "https://example.org"},
                                                      {"Cookie", "a=1; b=2"},
                                                      {"Authorization", "Bearer x"},
                                                      {"Sec-WebSocket-Protocol", "one, two"},
                                                      {"Sec-WebSocket-Extensions", "deflate"},
                                                      {"Accept", "text/html"},
                                                      {"Accept-Encoding", "gzip"},
                                                      {"Content-Type", "text/plain"},
                                                      {"Connection-Id", "forged"},
                                                      {"Meta-User", "forged"},
                                                      {"Grip-Sig", "forged"},
                                                      {"GRIP-Last", "forged"},
                                                      {"Content-Bytes-Replayed", "7"},
                                                      {"Content-Range", "bytes 0-0/1"},
                                                      {"Digest", "forged"},
                                                      {"Sluice-Event", "forged"},
                                                      {"X-Own", "kept"}}) {
    handshake.headers.push_back(header);
  }
  scene.open();
  const WebhookRequest request = scene.next();
  CHECK(request.line == "POST /chat?a=1&b HTTP/1.1");
  CHECK(request.body == "OPEN\r\n");
  const std::pair<const char*, const char*> fields[] = {
      {"Host", "example.org"},
      {"Accept", "application/websocket-events"},
      {"Content-Type", "application/websocket-events"},
      {"Content-Length", "6"},
      {"Sec-WebSocket-Extensions", "grip"},
      {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
      {"Sec-WebSocket-Version", "13"},
      {"Sec-WebSocket-Protocol", "one, two"},
      {"Origin", "https://example.org"},
      {"Cookie", "a=1; b=2"},
      {"Authorization", "Bearer x"},
      {"X-Own", "kept"},
      {"Upgrade", "none"},
      {"Accept-Encoding", "none"},
      {"Meta-User", "none"},
      {"GRIP-Last", "none"},
      {"Content-Bytes-Replayed", "none"},
      {"Content-Range", "none"},
      {"Digest", "none"},
      {"Sluice-Event", "none"},
      {"Transfer-Encoding", "none"},
  };
  for (const auto& [name, value] : fields) {
    CAPTURE(name);
    CHECK(request.field(name) == value);
  }
  CHECK(request.field("Connection-Id").size() == 36);
  CHECK(request.field("Connection-Id")[14] == '4');
  const std::string token = request.field("Grip-Sig");
  const std::int64_t now = std::time(nullptr);
  CHECK(is_valid_token(token, "changeme", now));
  CHECK(is_valid_token(token, "changeme", now + 3500));
  CHECK_FALSE(is_valid_token(token, "changeme", now + 3700));
}

TEST_CASE("GRIP is not offered if the route does not want it, and not signed without a key") {
  config::WebhookTarget target;
  target.grip = false;
  WebhookScene scene(target);
  scene.open();
  const WebhookRequest request = scene.next();
  CHECK(request.field("Sec-WebSocket-Extensions") == "none");
  CHECK(request.field("Grip-Feature") == "none");
  CHECK(request.field("Grip-Sig") == "none");
  // Even if the backend says so.
  scene.answer("OPEN\r\nTEXT 3\r\nabc\r\n", "Sec-WebSocket-Extensions: grip\r\n");
  CHECK(scene.sent() == "text 'abc'");
}

TEST_CASE("OPEN opens, with the backend's subprotocol and few of its fields") {
  WebhookScene scene;
  scene.socket.http_request.headers.push_back({"Sec-WebSocket-Protocol", "one, two"});
  scene.open();
  scene.next();
  CHECK(scene.socket.state == ReadyState::connecting);
  scene.answer("OPEN\r\nTEXT 2\r\nhi\r\n",
               "Sec-WebSocket-Protocol: two\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
               "X-Powered-By: Express\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
               "Set-Meta-User: alice\r\nKeep-Alive-Interval: 30\r\n");
  REQUIRE(scene.socket.accepted == "two");
  REQUIRE(scene.socket.accepted_headers.size() == 2);
  CHECK(scene.socket.accepted_headers[0].value == "a=1");
  CHECK(scene.socket.accepted_headers[1].name == "Set-Cookie");
  CHECK(scene.sent() == "text 'hi'");
}

TEST_CASE("the route's subprotocol stands in if the backend is silent about it") {
  WebhookScene scene;
  scene.route.subprotocols = {"x", "two"};
  scene.socket.http_request.headers.push_back({"Sec-WebSocket-Protocol", "one, two"});
  scene.open_with();
  CHECK(scene.socket.accepted == "two");
}

TEST_CASE("a subprotocol that the client did not offer") {
  WebhookScene scene;
  scene.open();
  scene.next();
  scene.answer("OPEN\r\nTEXT 1\r\na\r\n", "Sec-WebSocket-Protocol: other\r\n");
  CHECK(rejected(scene) == 502);
}

TEST_CASE("a content type may have parameters and any case") {
  WebhookScene scene;
  scene.open();
  scene.next();
  scene.answer_status(200, "OPEN\r\n",
                      "Content-Type: Application/WebSocket-Events; charset=utf-8\r\n");
  CHECK(scene.socket.state == ReadyState::open);
}

TEST_CASE("a refusal is relayed") {
  WebhookScene scene;
  scene.open();
  scene.next();
  scene.answer_status(403, "go away",
                      "Content-Type: text/html\r\nWWW-Authenticate: Basic\r\nX-Powered-By: y\r\n");
  REQUIRE(rejected(scene) == 403);
  CHECK(scene.socket.rejected_response->body == "go away");
  REQUIRE(scene.socket.rejected_response->headers.size() == 2);
  CHECK(scene.socket.rejected_response->headers[0].value == "text/html");
  CHECK(scene.socket.rejected_result == metrics::HandshakeResult::upstream_refused);
  scene.leave(1006, {}, false);
  CHECK(scene.done);
  scene.settle();
  CHECK(scene.requests.empty());
}

TEST_CASE("so is an answer that has nothing to do with events, and a large one without its body") {
  WebhookScene scene;
  scene.open();
  scene.next();
  scene.answer_status(200, std::string(100'001, 'x'), "Content-Type: text/html\r\n");
  CHECK(rejected(scene) == 200);
  CHECK(scene.socket.rejected_response->body.empty());
}

TEST_CASE("a backend that does not answer as it should while opening") {
  struct {
    const char* body;
    const char* fields;
  } const cases[] = {
      {"", ""},
      {"", "Keep-Alive-Interval: 0\r\n"},
      {"TEXT 1\r\na\r\n", ""},
      {"TEXT 1\r\na\r\nOPEN\r\n", "Keep-Alive-Interval: 30\r\n"},
      {"OPEN", ""},
      {"OPEN\r\nTEXT 0x1\r\na\r\n", ""},
  };
  for (const auto& [body, fields] : cases) {
    CAPTURE(body);
    WebhookScene scene;
    scene.open();
    scene.next();
    scene.answer(body, fields);
    CHECK(rejected(scene) == 502);
    CHECK(scene.socket.rejected_result == metrics::HandshakeResult::upstream_failed);
  }
}

TEST_CASE("a backend that is not there, or silent, refuses the handshake at once and for good") {
  {
    WebhookScene scene;
    scene.one_attempt();
    scene.server.stop_listening();
    scene.open();
    scene.loop.run_until([&] { return rejected(scene) != 0; });
    CHECK(rejected(scene) == 502);
  }
  {
    WebhookScene scene;
    scene.open();
    scene.next();
    scene.pass(31'000);
    scene.settle();
    CHECK(rejected(scene) == 504);
    CHECK(scene.socket.rejected_result == metrics::HandshakeResult::upstream_timeout);
  }
  {
    WebhookScene scene;
    scene.open();
    scene.next().peer->close();
    scene.settle();
    CHECK(rejected(scene) == 502);
  }
}

TEST_CASE("a backend that has not decided yet is asked again") {
  WebhookScene scene;
  scene.connect_timeout_ms = 60'000;
  scene.open();
  scene.next();
  scene.answer("", "Keep-Alive-Interval: 25\r\n");
  CHECK(scene.socket.state == ReadyState::connecting);
  scene.pass(24'500);
  scene.settle();
  CHECK(scene.requests.empty());
  scene.pass(1'000);
  CHECK(scene.next().body == "OPEN\r\n");
  scene.answer("OPEN\r\n");
  CHECK(scene.socket.state == ReadyState::open);
}

TEST_CASE("a backend that has not decided yet hears of a client that has gone") {
  WebhookScene scene;
  scene.open();
  scene.next();
  scene.answer("", "Keep-Alive-Interval: 25\r\n");
  SUBCASE("between two requests") {
    scene.vanish();
  }
  SUBCASE("while it is asked again") {
    scene.pass(26'000);
    CHECK(scene.next().body == "OPEN\r\n");
    scene.vanish();
    scene.answer("", "Keep-Alive-Interval: 25\r\n");
  }
  CHECK_FALSE(scene.done);
  CHECK(scene.next().body == "DISCONNECT\r\n");
  scene.answer("");
  CHECK(scene.done);
}

TEST_CASE("a backend that decides too late hears that its client has gone") {
  WebhookScene scene;
  scene.open();
  scene.next();
  scene.pass(9'400);
  CHECK(scene.socket.state == ReadyState::connecting);
  scene.pass(600);
  CHECK(scene.socket.rejected_result == metrics::HandshakeResult::upstream_timeout);
  scene.vanish();
  scene.answer("OPEN\r\n");
  CHECK(scene.next().body == "DISCONNECT\r\n");
  scene.answer("");
  CHECK(scene.done);
}

// ---- Messages

TEST_CASE("messages as events, and events as messages") {
  WebhookScene scene;
  scene.open_with();
  scene.say("hi");
  const WebhookRequest request = scene.next();
  CHECK(request.body == "TEXT 2\r\nhi\r\n");
  CHECK(request.field("Content-Length") == "12");
  CHECK(request.field("Sec-WebSocket-Extensions") == "grip");
  scene.answer("TEXT 5\r\nhello\r\nBINARY 2\r\n\0\1\r\nTEXT\r\nPING 1\r\np\r\nPONG\r\n"sv);
  CHECK(scene.sent() == "text 'hello'; binary '\0\1'; text ''"s);
  CHECK(ending(scene) == "not");
}

TEST_CASE("requests are serial, and take along what came in the meantime") {
  WebhookScene scene;
  scene.open_with();
  scene.bridge->on_message(MessageType::text, {});
  scene.bridge->on_message(MessageType::binary, as_bytes("\0\1"sv));
  scene.end_turn();
  scene.say("a");
  scene.say("b");
  const WebhookRequest first = scene.next();
  CHECK(first.body == "TEXT\r\nBINARY 2\r\n\0\1\r\n"sv);
  scene.settle();
  CHECK(scene.requests.empty());
  scene.answer("");
  const WebhookRequest second = scene.next();
  CHECK(second.body == "TEXT 1\r\na\r\nTEXT 1\r\nb\r\n");
  CHECK(second.field("Connection-Id") == first.field("Connection-Id"));
  CHECK(scene.server.peers.size() == 1);  // over the same connection
}

TEST_CASE("meta values come back with each request") {
  WebhookScene scene;
  scene.open_with("Set-Meta-User: alice\r\nset-meta-X: 1\r\nSet-Meta-: y\r\n");
  scene.say("a");
  const WebhookRequest first = scene.next();
  CHECK(first.field("Meta-User") == "alice");
  CHECK(first.field("Meta-X") == "1");
  CHECK(first.field("Meta-") == "none");
  scene.answer("", "Set-Meta-USER: bob\r\nSet-Meta-x:\r\n");
  scene.say("b");
  const WebhookRequest second = scene.next();
  CHECK(second.field("Meta-User") == "bob");
  CHECK(second.field("Meta-X") == "none");
  scene.answer("", "Set-Meta-Long: " + std::string(8 * 1024, 'x') + "\r\n");
  CHECK(ending(scene) == "1011 'backend failed'");
}

TEST_CASE("answers to messages that end the client") {
  struct {
    const char* body;
    const char* fields;
    const char* how;
  } const cases[] = {
      {"OPEN\r\n", "", "1011 'backend failed'"},
      {"TEXT 2\r\n\xff\xff\r\n", "", "1011 'backend failed'"},
      {"TEXT", "", "1011 'backend failed'"},
      {"", "Content-Bytes-Accepted: 2\r\n", "1011 'backend failed'"},
      {"DISCONNECT\r\nTEXT 1\r\na\r\n", "", "abort 1006 ''"},
      {"CLOSE\r\nTEXT 1\r\na\r\n", "", "1005 ''"},
      {"CLOSE 2\r\n\x03\xe8\r\n", "", "1000 ''"},
      {"CLOSE 5\r\n\x0f\xa1"
       "bye\r\n",
       "", "4001 'bye'"},
      {"CLOSE 2\r\n\x03\xed\r\n", "", "1000 ''"},  // 1005, which may not be sent
  };
  for (const auto& [body, fields, how] : cases) {
    CAPTURE(body);
    WebhookScene scene;
    scene.open_with();
    scene.say("x");
    scene.next();
    scene.answer(body, fields);
    CHECK(ending(scene) == how);
    CHECK(scene.sent().empty());
  }
  WebhookScene scene;
  scene.open_with();
  scene.say("x");
  scene.next();
  scene.answer("CLOSE 2\r\n\0\0\r\n"sv);  // what serve-grip's close() writes
  CHECK(ending(scene) == "1000 ''");
}

TEST_CASE("statuses that are no answers") {
  for (const int status : {204, 302, 404, 500}) {
    WebhookScene scene;
    scene.open_with();
    scene.say("x");
    scene.next();
    scene.answer_status(status, {}, events_type);
    CHECK(ending(scene) == "1011 'backend failed'");
    CHECK(scene.socket.ending->reason == metrics::CloseReason::upstream_failed);
    scene.settle();
    CHECK(scene.requests.empty());
    scene.leave(1011);
    CHECK_FALSE(scene.done);
    CHECK(scene.next().body == "CLOSE 2\r\n\x03\xf3\r\n");
    scene.answer("CLOSE 2\r\n\x03\xf3\r\n");
    CHECK(scene.done);
  }
  WebhookScene scene;
  scene.open_with();
  scene.say("x");
  scene.next();
  scene.answer_status(200, "TEXT 1\r\na\r\n", "Content-Type: text/plain\r\n");
  CHECK(ending(scene) == "1011 'backend failed'");
}

TEST_CASE("an answer may have a million bytes and not one more") {
  for (const bool too_long : {false, true}) {
    WebhookScene scene;
    scene.open_with();
    scene.say("x");
    scene.next();
    std::string body = "BINARY f4230\r\n" + std::string(0xf4230, 'x') + "\r\n";
    REQUIRE(body.size() == 1'000'000);
    if (too_long) body += "x";
    scene.last->send(test::ok(body, events_type));
    scene.loop.run_until([&] { return !scene.socket.sent.empty() || scene.socket.ending; });
    CHECK(ending(scene) == (too_long ? "1014 'backend failed'" : "not"));
  }
}

// ---- Keep-Alive-Interval

TEST_CASE("polls after silence, of at least 20 seconds") {
  WebhookScene scene;
  scene.open_with("Keep-Alive-Interval: 3\r\n");
  scene.pass(19'500);
  scene.settle();
  CHECK(scene.requests.empty());
  scene.say("a");  // which puts it off
  scene.next();
  scene.answer("");
  scene.pass(19'500);
  scene.settle();
  CHECK(scene.requests.empty());
  scene.pass(1'000);
  const WebhookRequest poll = scene.next();
  CHECK(poll.body.empty());
  CHECK(poll.field("Content-Length") == "0");
  scene.answer("TEXT 1\r\na\r\n");  // without the field: the interval stays
  CHECK(scene.sent() == "text 'a'");
  scene.pass(20'500);
  scene.next();
  scene.answer("", "Keep-Alive-Interval: no\r\n");
  scene.pass(60'000);
  scene.settle();
  CHECK(scene.requests.empty());
  CHECK(scene.wheel.size() <= 1);  // the pool's own
}

// ---- Content-Bytes-Accepted

TEST_CASE("what is not accepted comes again with what follows") {
  WebhookScene scene;
  scene.open_with();
  scene.say("[foo][hello");
  CHECK(scene.next().body == "TEXT b\r\n[foo][hello\r\n");
  scene.answer("", "Content-Bytes-Accepted: 5\r\n");
  scene.settle();
  CHECK(scene.requests.empty());
  scene.say(" world]");
  const WebhookRequest second = scene.next();
  CHECK(second.body == "TEXT 6\r\n[hello\r\nTEXT 7\r\n world]\r\n");
  CHECK(second.field("Content-Bytes-Replayed") == "6");
  scene.answer("TEXT 4\r\n[ok]\r\n");
  CHECK(scene.sent() == "text '[ok]'");
  scene.say("x");
  const WebhookRequest third = scene.next();
  CHECK(third.body == "TEXT 1\r\nx\r\n");
  CHECK(third.field("Content-Bytes-Replayed") == "none");
}

TEST_CASE("events without content are accepted with those before them") {
  WebhookScene scene;
  scene.open_with();
  for (const char* text : {"", "ab", "", "cd"}) {
    scene.bridge->on_message(MessageType::text, as_bytes(text));
  }
  scene.end_turn();
  CHECK(scene.next().body == "TEXT\r\nTEXT 2\r\nab\r\nTEXT\r\nTEXT 2\r\ncd\r\n");
  scene.answer("", "Content-Bytes-Accepted: 2\r\n");
  scene.say("e");
  CHECK(scene.next().body == "TEXT 2\r\ncd\r\nTEXT 1\r\ne\r\n");
}

TEST_CASE("what came during a request that accepted nothing is sent at once") {
  WebhookScene scene;
  scene.open_with();
  scene.say("ab");
  scene.next();
  scene.say("c");
  scene.answer("", "Content-Bytes-Accepted: 0\r\n");
  const WebhookRequest again = scene.next();
  CHECK(again.body == "TEXT 2\r\nab\r\nTEXT 1\r\nc\r\n");
  CHECK(again.field("Content-Bytes-Replayed") == "2");
}

TEST_CASE("a backend that takes nothing has not seen what came meanwhile, however much that is") {
  WebhookScene scene;
  scene.route.buffers = {.high_watermark_bytes = 1000, .low_watermark_bytes = 100};
  scene.open_with();
  scene.say("ab");
  scene.next();
  scene.say(std::string(1200, 'c'));
  CHECK(scene.socket.paused);
  scene.answer("", "Content-Bytes-Accepted: 0\r\n");
  CHECK(scene.next().field("Content-Bytes-Replayed") == "2");
  CHECK(scene.socket.state == ReadyState::open);
}

TEST_CASE("a request whose head alone is over the watermark has its body") {
  WebhookScene scene;
  scene.route.buffers = {.high_watermark_bytes = 64, .low_watermark_bytes = 16};
  scene.open_with();
  for (const std::string text : {"a", "b"}) {  // on a connection that is kept
    scene.say(text);
    CHECK(scene.next().body == "TEXT 1\r\n" + text + "\r\n");
    scene.answer("");
  }
}

TEST_CASE("a backend that takes nothing of all that there is room for") {
  WebhookScene scene;
  scene.route.buffers = {.high_watermark_bytes = 1000, .low_watermark_bytes = 100};
  scene.open_with();
  scene.say(std::string(700, 'x'));
  scene.next();
  scene.answer("", "Content-Bytes-Accepted: 0\r\n");
  CHECK_FALSE(scene.socket.paused);
  scene.say(std::string(700, 'y'));
  CHECK(scene.socket.paused);
  scene.next();
  scene.answer("", "Content-Bytes-Accepted: 600\r\n");  // room again
  CHECK_FALSE(scene.socket.paused);
  scene.say(std::string(700, 'z'));
  scene.next();
  scene.answer("", "Content-Bytes-Accepted: 0\r\n");
  CHECK(ending(scene) == "1011 'backend failed'");
}

// ---- The end

TEST_CASE("a client that closes") {
  WebhookScene scene;
  scene.open_with();
  scene.say("last");
  CHECK(scene.next().body == "TEXT 4\r\nlast\r\n");
  scene.say("words");
  scene.leave(1000, "done");
  CHECK_FALSE(scene.done);
  scene.answer("TEXT 1\r\na\r\n");
  CHECK(scene.sent().empty());
  CHECK(scene.next().body ==
        "TEXT 5\r\nwords\r\nCLOSE 6\r\n\x03\xe8"
        "done\r\n");
  scene.answer("CLOSE 2\r\n\x03\xe8\r\n");
  CHECK(scene.done);
  scene.settle();
  CHECK(scene.requests.empty());
}

TEST_CASE("a client that closes without a code") {
  WebhookScene scene;
  scene.open_with();
  scene.leave(1005);
  CHECK(scene.next().body == "CLOSE\r\n");
  scene.answer("");
  CHECK(scene.done);
}

TEST_CASE("a client that vanishes") {
  WebhookScene scene;
  scene.open_with();
  scene.say("a");
  scene.next();
  scene.vanish();
  scene.settle();
  CHECK(scene.requests.empty());
  scene.answer("");
  CHECK(scene.next().body == "DISCONNECT\r\n");
  CHECK_FALSE(scene.done);
  scene.answer_status(500);
  CHECK(scene.done);
}

TEST_CASE("a service that fails behind a client that has gone still hears of that, alone") {
  for (const bool late : {false, true}) {
    CAPTURE(late);
    WebhookScene scene;
    scene.open_with();
    scene.say("a");
    scene.next();
    scene.say("b");
    scene.vanish();
    if (late) {
      scene.pass(31'000);
    } else {
      scene.answer_status(500);
    }
    CHECK(scene.next().body == "DISCONNECT\r\n");
    CHECK_FALSE(scene.done);
    scene.answer_status(500);
    CHECK(scene.done);
  }
}

TEST_CASE("a client that vanishes while the backend decides") {
  for (const bool refused : {false, true}) {
    WebhookScene scene;
    scene.open();
    scene.next();
    scene.vanish();
    CHECK_FALSE(scene.done);
    if (refused) {
      scene.answer_status(403);
    } else {
      scene.answer("OPEN\r\n");
      CHECK_FALSE(scene.socket.accepted);
      CHECK(scene.next().body == "DISCONNECT\r\n");
      scene.answer("");
    }
    CHECK(scene.done);
  }
}

TEST_CASE("the backend closes, and hears of the client's answer") {
  WebhookScene scene;
  scene.open_with();
  scene.say("x");
  scene.next();
  scene.answer("CLOSE 2\r\n\x0f\xa1\r\n");
  scene.leave(4001);
  CHECK(scene.next().body == "CLOSE 2\r\n\x0f\xa1\r\n");
  scene.answer("");
  CHECK(scene.done);
}

TEST_CASE("the backend disconnects, and hears nothing more") {
  WebhookScene scene;
  scene.open_with();
  scene.say("x");
  scene.next();
  scene.answer("DISCONNECT\r\n");
  scene.leave(1006, {}, false);
  CHECK(scene.done);
  scene.settle();
  CHECK(scene.requests.empty());
}

TEST_CASE("a close behind contents that are accepted in part") {
  WebhookScene scene;
  scene.open_with();
  scene.say("abcd");
  scene.next();
  scene.leave(1000);
  scene.answer("", "Content-Bytes-Accepted: 2\r\n");
  CHECK(scene.next().body == "TEXT 2\r\ncd\r\nCLOSE 2\r\n\x03\xe8\r\n");
  scene.answer("", "Content-Bytes-Accepted: 1\r\n");  // the close is postponed
  CHECK(scene.next().body == "TEXT 1\r\nd\r\nCLOSE 2\r\n\x03\xe8\r\n");
  scene.answer("", "Content-Bytes-Accepted: 0\r\n");  // never
  CHECK(scene.done);
  scene.settle();
  CHECK(scene.requests.empty());
}

TEST_CASE("a close that is not accepted") {
  WebhookScene scene;
  scene.open_with();
  scene.leave(1000);
  scene.next();
  scene.answer("", "Content-Bytes-Accepted: 1\r\n");
  CHECK(scene.done);
}

TEST_CASE("the last request ends by itself, or with the process") {
  {
    WebhookScene scene;
    scene.open_with();
    scene.vanish();
    scene.next();
    scene.pass(31'000);  // no answer
    scene.settle();
    CHECK(scene.done);
  }
  {
    WebhookScene scene;
    scene.open_with();
    scene.vanish();
    scene.next();
    scene.bridge->cut();
    scene.end_turn();
    CHECK(scene.done);
  }
}

// ---- Failures

TEST_CASE("a backend that has gone is tried five times more") {
  WebhookScene scene;
  scene.one_attempt();
  scene.open_with();
  scene.server.last().close();
  scene.server.stop_listening();
  scene.settle();
  const auto tries = [&] {
    return scene.upstream->endpoints()
        .front()
        ->counters()
        .failures[static_cast<std::size_t>(metrics::ConnectFailure::refused)]
        .get();
  };
  scene.say("x");
  std::uint64_t seen = 0;
  for (const std::uint64_t delay_ms : {1'000, 2'000, 4'000, 8'000, 16'000}) {
    scene.loop.run_until([&] { return tries() > seen; });
    scene.settle();
    seen = tries();
    scene.pass(delay_ms - 500);
    scene.settle();
    CHECK(tries() == seen);  // not earlier
    CHECK(ending(scene) == "not");
    scene.pass(1'500);
  }
  scene.loop.run_until([&] { return scene.socket.ending.has_value(); });
  CHECK(ending(scene) == "1014 'backend failed'");
  scene.leave(1014);
  CHECK(scene.done);  // who is not there is told nothing
}

TEST_CASE("a request that was sent is not repeated") {
  WebhookScene scene;
  scene.open_with();
  scene.say("x");
  scene.next();
  scene.last->close();
  scene.settle();
  CHECK(ending(scene) == "1014 'backend failed'");
  scene.pass(40'000);
  scene.settle();
  CHECK(scene.requests.empty());
}

TEST_CASE("a request that was answered before it was sent is not repeated either") {
  WebhookScene scene;
  scene.open_with();
  scene.server.on_data = [](test::Peer& peer) {
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nTEXT");
    peer.close();
  };
  scene.say(std::string(8 * 1024 * 1024, 'x'));
  scene.loop.run_until([&] { return scene.socket.ending.has_value(); });
  CHECK(ending(scene) == "1014 'backend failed'");
}

TEST_CASE("an answer that does not end") {
  WebhookScene scene;
  scene.open_with();
  scene.say("x");
  scene.next();
  scene.last->send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nTEXT");
  scene.settle();
  scene.pass(29'000);
  CHECK(ending(scene) == "not");
  scene.pass(2'000);
  CHECK(ending(scene) == "1014 'backend failed'");
  CHECK(scene.upstream->counters().request_failures.get() == 1);
}

TEST_CASE("a service that was late, or wrong, hears that its client has gone, and nothing else") {
  for (const bool clean : {true, false}) {
    CAPTURE(clean);
    WebhookScene scene;
    scene.open_with("Keep-Alive-Interval: 20\r\n");
    scene.say("x");
    scene.next();
    scene.say("behind it");
    scene.pass(31'000);
    CHECK(ending(scene) == "1014 'backend failed'");
    CHECK(scene.upstream->counters().request_failures.get() == 1);
    scene.pass(21'000);
    scene.settle();
    CHECK(scene.requests.empty());  // no poll either
    scene.leave(clean ? 1014 : 1006, {}, clean);
    CHECK(scene.next().body == (clean ? "CLOSE 2\r\n\x03\xf6\r\n" : "DISCONNECT\r\n"));
    scene.answer_status(500);
    CHECK(scene.done);
  }
}

// ---- Back-pressure

TEST_CASE("while too much waits for the backend, the client is not read") {
  WebhookScene scene;
  scene.route.buffers = {.high_watermark_bytes = 1000, .low_watermark_bytes = 250};
  scene.open_with();
  scene.say("a");
  scene.next();
  int messages = 0;
  while (!scene.socket.paused) {
    scene.say(std::string(100, 'x'));
    REQUIRE(++messages < 20);
  }
  CHECK(messages >= 5);
  CHECK(scene.socket.upstream_buffered > 1000);
  CHECK(scene.socket.upstream_buffered < 1200);
  scene.answer("");
  CHECK(scene.socket.paused);
  const std::size_t events = scene.next().body.size();
  CHECK(events == messages * ("TEXT 64\r\n"sv.size() + 102));
  scene.answer("");
  CHECK_FALSE(scene.socket.paused);
  CHECK(scene.socket.upstream_buffered == 0);
}

TEST_CASE("while the client does not read, the backend is not asked") {
  WebhookScene scene;
  scene.open_with();
  scene.socket.buffered = scene.route.buffers.high_watermark_bytes + 1;
  scene.say("a");
  scene.pass(1'000);
  scene.settle();
  CHECK(scene.requests.empty());
  scene.socket.buffered = 0;
  scene.bridge->on_drain();
  CHECK(scene.next().body == "TEXT 1\r\na\r\n");
}

TEST_CASE("of a client that is evicted the queue is dropped, and the end is told") {
  for (const bool under_way : {true, false}) {
    CAPTURE(under_way);
    WebhookScene scene;
    scene.open_with();
    scene.say("a");
    scene.next();
    if (!under_way) scene.answer("", "Content-Bytes-Accepted: 0\r\n");
    scene.say("more");
    scene.bridge->cut();
    CHECK(scene.bridge->held_bytes() == 0);
    scene.vanish();
    std::string body = scene.next().body;
    while (body.starts_with("TEXT")) body = scene.next().body;  // was on its way already
    CHECK(body == "DISCONNECT\r\n");
    scene.answer("");
    scene.loop.run_until([&] { return scene.done; });
  }
}

TEST_CASE("what a request and its answer take is seen by those who evict") {
  WebhookScene scene;
  scene.open_with();
  CHECK(scene.bridge->held_bytes() == 0);
  scene.say(std::string(100'000, 'x'));
  scene.next();
  CHECK(scene.bridge->held_bytes() >= 200'000);  // in the queue, and in the request's body
  scene.last->send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + std::string(50'000, 'x'));
  scene.settle();
  CHECK(scene.bridge->held_bytes() >= 250'000);
}

TEST_CASE("a client that is evicted while its close waits is not forgotten either") {
  WebhookScene scene;
  scene.open_with();
  scene.say("a");
  scene.next();
  scene.answer_status(500);
  CHECK(ending(scene) == "1011 'backend failed'");
  scene.bridge->cut();
  scene.vanish();
  CHECK(scene.next().body == "DISCONNECT\r\n");
  scene.answer("");
  CHECK(scene.done);
}

TEST_CASE("a message of any size reaches the backend on a new connection, too") {
  for (const std::size_t size : {256UL * 1024 - 10, 256UL * 1024 + 10, 900UL * 1024}) {
    CAPTURE(size);
    WebhookScene scene;
    scene.open_with("Connection: close\r\n");
    scene.say(std::string(size, 'x'));
    CHECK(scene.next().body.size() > size);
  }
}

// ---- GRIP

namespace {

std::string control(std::string_view json) {
  std::string event;
  append_event({EventType::text, "c:" + std::string(json)}, event);
  return event;
}

struct GripScene : WebhookScene {
  explicit GripScene(config::WebhookTarget target = {},
                     std::string_view extension = "Sec-WebSocket-Extensions: grip\r\n")
      : WebhookScene(std::move(target)) {
    open_with(extension);
  }
  // The backend answers a message with these events.
  void tell(std::string_view events, std::string_view fields = {}) {
    say("?");
    next();
    answer(events, fields);
  }
  Receipt publish(Published item) {
    const auto delivery = channels.publish(item);
    return channels.settle(delivery);
  }
  Receipt publish(const std::string& channel, const std::string& text) {
    return publish({.channel = channel,
                    .action = Published::Action::send,
                    .content = {GripMessageType::text, text}});
  }
};

}  // namespace

TEST_CASE("with GRIP, messages have a prefix, and others are for the gateway or for nobody") {
  GripScene scene;
  scene.tell(
      "TEXT 4\r\nm:hi\r\nTEXT 2\r\nhi\r\nBINARY 4\r\nm:\0\1\r\nBINARY 4\r\nc:{}\r\n"
      "TEXT 6\r\nc:junk\r\nTEXT 2\r\nm:\r\n"sv);
  CHECK(scene.sent() == "text 'hi'; binary '\0\1'; text ''"s);

  GripScene own({}, "Sec-WebSocket-Extensions: grip; message-prefix=\"x\"\r\n");
  own.tell("TEXT 2\r\nxa\r\nTEXT 3\r\nm:b\r\n");
  CHECK(own.sent() == "text 'a'");
  GripScene bare({}, "Sec-WebSocket-Extensions: grip; message-prefix=\"\"\r\n");
  bare.tell("TEXT 3\r\nm:b\r\nTEXT 4\r\nc:{}\r\n");
  CHECK(bare.sent() == "text 'm:b'");
}

TEST_CASE("GRIP is decided by the answer that opens") {
  GripScene scene({}, "");
  scene.tell("TEXT 4\r\nm:hi\r\n", "Sec-WebSocket-Extensions: grip\r\n");
  CHECK(scene.sent() == "text 'm:hi'");

  WebhookScene late;
  late.connect_timeout_ms = 60'000;
  late.open();
  late.next();
  late.answer("", "Keep-Alive-Interval: 25\r\n");
  late.pass(26'000);
  late.next();
  late.answer("OPEN\r\nTEXT 4\r\nm:hi\r\n", "Sec-WebSocket-Extensions: grip\r\n");
  CHECK(late.sent() == "text 'hi'");
}

TEST_CASE("what is published to a channel reaches who is subscribed to it") {
  config::WebhookTarget target;
  target.channel_prefix = "p-";
  GripScene scene(target);
  scene.tell(control(R"({"type":"subscribe","channel":"a"})"));
  CHECK(scene.publish("a", "x") == Receipt{});
  CHECK(scene.publish("p-a", "x") == Receipt{.matched = 1, .written = 1});
  scene.socket.buffered = 1;
  CHECK(scene.publish("p-a", "y") == Receipt{.matched = 1, .queued = 1});
  CHECK(scene.sent() == "text 'x'; text 'y'");
  scene.socket.refuses_prepared = true;
  CHECK(scene.publish("p-a", "z") == Receipt{.matched = 1, .dropped = 1});
  scene.socket.refuses_prepared = false;
  scene.socket.buffered = 0;
  scene.sent();
  const Published binary{.channel = "p-a",
                         .action = Published::Action::send,
                         .content = {GripMessageType::binary, "b"}};
  scene.publish(binary);
  CHECK(scene.sent() == "binary 'b'");
  const Published ping{
      .channel = "p-a", .action = Published::Action::send, .content = {GripMessageType::ping, ""}};
  CHECK(scene.publish(ping) == Receipt{.matched = 1, .dropped = 1});
  CHECK(scene.publish({.channel = "p-a"}) == Receipt{});

  scene.tell(control(R"({"type":"unsubscribe","channel":"a"})"));
  CHECK(scene.publish("p-a", "x") == Receipt{});
}

TEST_CASE("filters and meta values of a subscriber") {
  GripScene scene;
  scene.tell(control(R"({"type":"set-meta","name":"user","value":"alice"})") +
             control(R"({"type":"subscribe","channel":"a","filters":["skip-self","var-subst"]})"));
  Published item{.channel = "a",
                 .meta = {{"sender", "alice"}},
                 .action = Published::Action::send,
                 .content = {GripMessageType::text, "hi %(user)s"}};
  CHECK(scene.publish(item) == Receipt{});
  item.meta["sender"] = "bob";
  scene.publish(item);
  CHECK(scene.sent() == "text 'hi alice'");
  scene.tell(control(R"({"type":"set-meta","name":"user"})"));
  scene.publish(item);
  CHECK(scene.sent() == "text 'hi %(user)s'");
}

TEST_CASE("more than five filters are too many") {
  GripScene scene;
  scene.tell(control(R"({"type":"subscribe","channel":"a","filters":["1","2","3","4","5"]})"));
  CHECK(ending(scene) == "not");
  scene.tell(control(R"({"type":"subscribe","channel":"a","filters":["1","2","3","4","5","6"]})") +
             "TEXT 3\r\nm:x\r\n");
  CHECK(ending(scene) == "1011 'backend failed'");
  CHECK(scene.sent().empty());
}

TEST_CASE("a publisher closes") {
  GripScene scene;
  scene.tell(control(R"({"type":"subscribe","channel":"a"})"));
  CHECK(scene.publish(
            {.channel = "a", .action = Published::Action::close, .code = 4001, .reason = "bye"}) ==
        Receipt{.matched = 1, .written = 1});
  CHECK(ending(scene) == "4001 'bye'");
  CHECK(scene.publish("a", "x") == Receipt{.matched = 1, .dropped = 1});
  CHECK(scene.publish({.channel = "a", .action = Published::Action::close}) ==
        Receipt{.matched = 1, .dropped = 1});
  scene.leave(4001, "bye");
  CHECK(scene.publish("a", "x") == Receipt{});
  CHECK(scene.next().body == "CLOSE\r\n");  // without the code
}

TEST_CASE("a publisher closes without a code") {
  GripScene scene;
  scene.tell(control(R"({"type":"subscribe","channel":"a"})"));
  scene.publish({.channel = "a", .action = Published::Action::close});
  CHECK(ending(scene) == "1005 ''");
}

TEST_CASE("a publisher has the backend asked") {
  GripScene scene;
  scene.tell(control(R"({"type":"subscribe","channel":"a"})"));
  scene.publish({.channel = "a", .action = Published::Action::refresh});
  scene.end_turn();
  CHECK(scene.next().body.empty());
  scene.answer("TEXT 3\r\nm:x\r\n");
  CHECK(scene.sent() == "text 'x'");
}

TEST_CASE("a backend that detaches hears a close and nothing more; published messages still come") {
  GripScene scene;
  scene.tell(control(R"({"type":"subscribe","channel":"a"})"), "Keep-Alive-Interval: 20\r\n");
  scene.say("1");
  scene.next();
  scene.say("2");
  scene.answer(control(R"({"type":"detach"})") + "TEXT 3\r\nm:x\r\n");
  CHECK(scene.next().body == "TEXT 1\r\n2\r\nCLOSE\r\n");
  scene.answer("TEXT 3\r\nm:y\r\nCLOSE\r\n");
  scene.say("3");
  scene.pass(60'000);
  scene.publish({.channel = "a", .action = Published::Action::refresh});
  scene.settle();
  CHECK(scene.requests.empty());
  CHECK(scene.sent().empty());
  CHECK(ending(scene) == "not");
  scene.publish("a", "z");
  CHECK(scene.sent() == "text 'z'");
  scene.leave(1000);
  CHECK(scene.done);
  scene.settle();
  CHECK(scene.requests.empty());
}

TEST_CASE("what a client said before its backend detached is lost with a record") {
  test::LogLines log;
  GripScene scene;
  scene.say("1");
  scene.next();
  scene.say("2");
  scene.answer(control(R"({"type":"detach"})"));
  scene.next();
  scene.answer_status(500);
  const std::string lines = log.stop();
  CHECK(test::count_of(lines, "webhook failed") == 1);
}

TEST_CASE("a detached client outlives its backend") {
  GripScene scene;
  scene.tell(control(R"({"type":"detach"})"));
  scene.next();
  scene.answer_status(500);
  CHECK(ending(scene) == "not");
}

TEST_CASE("keep-alives after silence") {
  GripScene scene;
  scene.tell(control(R"({"type":"keep-alive","content":"k","timeout":10})"));
  scene.pass(9'500);
  scene.tell("TEXT 3\r\nm:x\r\n");
  scene.pass(9'500);
  CHECK(scene.sent() == "text 'x'");
  scene.pass(1'000);
  CHECK(scene.sent() == "text 'k'");
  scene.pass(21'500);
  CHECK(scene.sent() == "text 'k'; text 'k'");
  scene.tell(control(R"({"type":"keep-alive"})"));
  scene.pass(60'000);
  CHECK(scene.sent().empty());
}

TEST_CASE("keep-alives at intervals") {
  GripScene scene;
  scene.tell(
      control(R"({"type":"keep-alive","content-bin":"AQ==","timeout":10,"mode":"interval"})"));
  scene.pass(9'500);
  scene.tell("TEXT 3\r\nm:x\r\n");
  scene.pass(1'000);
  CHECK(scene.sent() == "text 'x'; binary '\1'");
}

TEST_CASE("delayed messages") {
  GripScene scene;
  scene.tell(control(R"({"type":"send-delayed","content":"1"})"));
  CHECK(scene.sent().empty());
  scene.pass(1'500);
  CHECK(scene.sent() == "text '1'");
  scene.tell(control(R"({"type":"send-delayed","content":"2","timeout":5})") +
             control(R"({"type":"send-delayed","content":"3","timeout":5})") + "TEXT 3\r\nm:x\r\n");
  CHECK(scene.sent() == "text '2'; text 'x'");
  scene.tell(control(R"({"type":"flush-delayed"})"));
  CHECK(scene.sent() == "text '3'");
  scene.pass(10'000);
  CHECK(scene.sent().empty());
}
