// One POST a message: what the backend gets, and what its answers do.
#include <doctest/doctest.h>

#include "webhook_scene.h"

using namespace sluice;
using namespace sluice::bridges;
using namespace std::literals;

namespace {

config::WebhookTarget message_target() {
  config::WebhookTarget target;
  target.protocol = config::WebhookTarget::Protocol::message;
  return target;
}

struct MessageScene : WebhookScene {
  MessageScene() : WebhookScene(message_target()) {}
  void open_with(std::string_view body = {}, std::string_view fields = {}) {
    open();
    next();
    answer_status(200, body, fields);
    REQUIRE(socket.state == ReadyState::open);
  }
};

}  // namespace

TEST_CASE("the request that opens, and its answers") {
  for (const int status : {200, 201, 204}) {
    MessageScene scene;
    scene.socket.http_request.headers.push_back({"Sec-WebSocket-Protocol", "one, two"});
    scene.socket.http_request.headers.push_back({"Cookie", "a=1"});
    scene.socket.http_request.headers.push_back({"Sluice-Close-Code", "forged"});
    scene.open();
    const WebhookRequest request = scene.next();
    CHECK(request.line == "POST /chat HTTP/1.1");
    CHECK(request.field("Sluice-Event") == "open");
    CHECK(request.field("Connection-Id").size() == 36);
    CHECK(request.field("Content-Length") == "0");
    CHECK(request.field("Content-Type") == "none");
    CHECK(request.field("Cookie") == "a=1");
    CHECK(request.field("Sec-WebSocket-Protocol") == "one, two");
    CHECK(request.field("Sec-WebSocket-Key") == "none");
    CHECK(request.field("Sluice-Close-Code") == "none");
    scene.last->send("HTTP/1.1 " + std::to_string(status) +
                     " x\r\nSec-WebSocket-Protocol: two\r\nSet-Cookie: b=2\r\n" +
                     (status == 204 ? "\r\n" : "Content-Length: 0\r\n\r\n"));
    scene.settle();
    CHECK(scene.socket.accepted == "two");
    CHECK(scene.socket.accepted_headers.size() == 1);
    CHECK(scene.sent().empty());
  }
}

TEST_CASE("an answer to the opening may already say something") {
  MessageScene scene;
  scene.open_with("welcome", "Content-Type: text/plain\r\n");
  CHECK(scene.sent() == "text 'welcome'");
}

TEST_CASE("what is no success refuses the handshake") {
  for (const int status : {301, 403, 404, 500}) {
    MessageScene scene;
    scene.open();
    scene.next();
    scene.answer_status(status, "no", "Content-Type: text/plain\r\n");
    REQUIRE(scene.socket.rejected_response);
    CHECK(scene.socket.rejected_response->status == status);
    CHECK(scene.socket.rejected_response->body == "no");
    scene.vanish();
    CHECK(scene.done);
    scene.settle();
    CHECK(scene.requests.empty());
  }
}

TEST_CASE("messages, one at a time and in order") {
  MessageScene scene;
  scene.open_with();
  scene.say("ping");
  scene.say("\0\1"sv, MessageType::binary);
  scene.say("");
  const WebhookRequest text = scene.next();
  CHECK(text.field("Sluice-Event") == "message");
  CHECK(text.field("Content-Type") == "text/plain; charset=utf-8");
  CHECK(text.body == "ping");
  scene.settle();
  CHECK(scene.requests.empty());
  scene.answer_status(200, "pong", "Content-Type: text/plain; charset=utf-8\r\n");
  const WebhookRequest binary = scene.next();
  CHECK(binary.field("Content-Type") == "application/octet-stream");
  CHECK(binary.body == "\0\1"sv);
  CHECK(binary.field("Connection-Id") == text.field("Connection-Id"));
  scene.last->send("HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(scene.next().body.empty());
  scene.answer_status(200, "{}", "Content-Type: application/json\r\n");
  CHECK(scene.sent() == "text 'pong'; text '{}'");
}

TEST_CASE("what an answer's content type makes of it") {
  const std::pair<const char*, const char*> cases[] = {
      {"Content-Type: text/html\r\n", "text 'x'"},
      {"Content-Type: TEXT/PLAIN;charset=latin1\r\n", "text 'x'"},
      {"Content-Type: application/problem+json\r\n", "text 'x'"},
      {"Content-Type: application/octet-stream\r\n", "binary 'x'"},
      {"Content-Type: application/jsonx\r\n", "binary 'x'"},
      {"", "binary 'x'"},
  };
  for (const auto& [field, sent] : cases) {
    CAPTURE(field);
    MessageScene scene;
    scene.open_with();
    scene.say("a");
    scene.next();
    scene.answer_status(200, "x", field);
    CHECK(scene.sent() == sent);
  }
  MessageScene scene;
  scene.open_with();
  scene.say("a");
  scene.next();
  scene.answer_status(200, "\xff", "Content-Type: text/plain\r\n");
  CHECK(scene.sent() == "binary '\xff'");
}

TEST_CASE("a message that the backend does not take ends the client") {
  for (const int status : {302, 400, 500}) {
    MessageScene scene;
    scene.open_with();
    scene.say("a");
    scene.say("b");
    scene.next();
    scene.answer_status(status, "no", "Content-Type: text/plain\r\n");
    REQUIRE(scene.socket.ending);
    CHECK(scene.socket.ending->code == 1011);
    CHECK(scene.sent().empty());
    scene.settle();
    CHECK(scene.requests.empty());
    scene.leave(1011);
    CHECK_FALSE(scene.done);
    const WebhookRequest close = scene.next();  // without what waited behind the message
    CHECK(close.field("Sluice-Event") == "close");
    CHECK(close.field("Sluice-Close-Code") == "1011");
    scene.answer_status(204);
    CHECK(scene.done);
  }
}

TEST_CASE("the end comes after everything else") {
  MessageScene scene;
  scene.open_with();
  scene.say("a");
  scene.next();
  scene.say("b");
  scene.leave(4001, "bye, ü%");
  CHECK_FALSE(scene.done);
  scene.answer_status(200, "late", "Content-Type: text/plain\r\n");
  CHECK(scene.next().body == "b");
  scene.answer_status(200);
  const WebhookRequest close = scene.next();
  CHECK(close.field("Sluice-Event") == "close");
  CHECK(close.field("Sluice-Close-Code") == "4001");
  CHECK(close.field("Sluice-Close-Reason") == "bye%2C%20%C3%BC%25");
  CHECK(close.field("Content-Length") == "0");
  CHECK_FALSE(scene.done);
  scene.answer_status(500);
  CHECK(scene.done);
  CHECK(scene.sent().empty());
}

TEST_CASE("a client that vanishes, open or not") {
  {
    MessageScene scene;
    scene.open_with();
    scene.vanish();
    const WebhookRequest close = scene.next();
    CHECK(close.field("Sluice-Close-Code") == "1006");
    CHECK(close.field("Sluice-Close-Reason") == "none");
    scene.answer_status(200);
    CHECK(scene.done);
  }
  for (const int status : {200, 403}) {
    MessageScene scene;
    scene.open();
    scene.next();
    scene.vanish();
    CHECK_FALSE(scene.done);
    scene.answer_status(status);
    if (status == 200) {
      CHECK(scene.next().field("Sluice-Event") == "close");
      scene.answer_status(200);
    }
    CHECK(scene.done);
    CHECK_FALSE(scene.socket.accepted);
  }
}

TEST_CASE("a service that fails behind a client that has gone still hears of that, alone") {
  MessageScene scene;
  scene.open_with();
  scene.say("a");
  scene.say("b");
  scene.next();
  scene.vanish();
  scene.answer_status(500);
  CHECK(scene.next().field("Sluice-Event") == "close");
  CHECK_FALSE(scene.done);
  scene.answer_status(500);
  CHECK(scene.done);
}

TEST_CASE("a backend that is not there") {
  {
    MessageScene scene;
    scene.one_attempt();
    scene.server.stop_listening();
    scene.open();
    scene.loop.run_until([&] { return scene.socket.rejected_response.has_value(); });
    CHECK(scene.socket.rejected_response->status == 502);
  }
  {
    MessageScene scene;
    scene.open_with();
    scene.say("a");
    scene.next();
    scene.last->close();
    scene.loop.run_until([&] { return scene.socket.ending.has_value(); });
    CHECK(scene.socket.ending->code == 1014);
  }
}

TEST_CASE("while messages wait for the backend, the client is not read") {
  MessageScene scene;
  scene.route.buffers = {.high_watermark_bytes = 1000, .low_watermark_bytes = 250};
  scene.open_with();
  int messages = 0;
  for (; !scene.socket.paused; ++messages) {
    scene.say(std::string(100, 'x'));
    REQUIRE(messages < 20);
  }
  for (int i = 0; i < messages; ++i) {
    CHECK(scene.socket.paused == (i < messages - 1));
    CHECK(scene.next().body.size() == 100);
    scene.answer_status(204, {}, {});
  }
  CHECK(scene.socket.upstream_buffered == 0);
}
