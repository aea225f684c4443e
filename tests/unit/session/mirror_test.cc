// The mirror: the server's end of a socket behaves as the browser's does.
#include "scene.h"
#include "ws/close_code.h"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("a message goes in and its answer out, in one turn and with one flush") {
  Scene scene;
  scene.on_message = [&](MessageType type, std::string_view text) {
    scene.session->send(type, as_bytes(text));
  };
  scene.receive(scene.client.text("Hello") + scene.client.binary("\x01"));
  CHECK(scene.told() == "text 'Hello'; binary '\\x01'");
  CHECK(scene.transport.flushes == 1);
  CHECK(scene.client_got() == "text 'Hello'; binary '\\x01'");
}

TEST_CASE("a message in pieces is told once, when it is whole (RFC 6455 5.4)") {
  Scene scene;
  const std::string bytes =
      scene.client.fragment("Hel", true, false) + scene.client.fragment("lo", false, true);
  for (const char byte : bytes) scene.receive(std::string(1, byte));
  CHECK(scene.told() == "text 'Hello'");
}

TEST_CASE("a message in pieces is lent to those it is sent to, as one that comes whole is") {
  for (const bool reads : {true, false}) {
    Scene scene;
    if (!reads) scene.client_stops_reading();
    const std::string received = letters(100);
    scene.pool.lend(as_bytes(received));
    const std::string half = letters(ByteQueue::borrowed_bytes_min, 'a');
    const std::string rest = letters(ByteQueue::borrowed_bytes_min, 'b');
    int told = 0;
    scene.on_message = [&](MessageType type, std::string_view message) {
      ++told;
      CHECK(scene.pool.lends(as_bytes(message)));
      CHECK_FALSE(scene.pool.lends(as_bytes(received)));
      scene.session->send(type, as_bytes(message));
      CHECK(scene.transport.output().size() > message.size());  // it has not left
    };
    scene.receive(scene.client.fragment(half, true, false) +
                  scene.client.fragment(rest, false, true));
    CHECK(told == 1);
    CHECK(scene.pool.lends(as_bytes(received)));
    scene.client_reads();
    CHECK(scene.transport.taken.ends_with(half + rest));
  }
}

TEST_CASE("close() takes 1000 and 3000 to 4999, as a browser's does") {
  for (const int code : {0, 999, 1001, 1005, 1006, 1011, 1015, 2999, 5000, 65535}) {
    CAPTURE(code);
    Scene scene;
    CHECK_FALSE(scene.close(static_cast<std::uint16_t>(code)));
    scene.turn();
    CHECK(scene.session->ready_state() == ReadyState::open);
    CHECK(scene.client_got().empty());
  }
  for (const int code : {1000, 3000, 3999, 4000, 4999}) {
    CAPTURE(code);
    Scene scene;
    CHECK(scene.close(static_cast<std::uint16_t>(code)));
    CHECK(scene.session->ready_state() == ReadyState::closing);
    scene.turn();
    CHECK(scene.client_got() == "close " + std::to_string(code) + " ''");
  }
}

TEST_CASE("a close reason is at most 123 bytes of UTF-8 (RFC 6455 5.5)") {
  Scene scene;
  CHECK_FALSE(scene.close(1000, letters(124)));
  CHECK_FALSE(scene.close(1000, "\xff"));
  CHECK(scene.session->ready_state() == ReadyState::open);
  CHECK(scene.close(1000, letters(123)));
  scene.turn();
  CHECK(scene.client_got() == "close 1000 (123 bytes)");
}

TEST_CASE("after close() nothing more is sent, and a second close() changes nothing") {
  Scene scene;
  scene.send("before");
  scene.close(4001, "first");
  scene.send("after");
  scene.close(4002, "second");
  scene.turn();
  CHECK(scene.client_got() == "text 'before'; close 4001 'first'");
}

TEST_CASE("messages that come after close() are not delivered, and the answer still counts") {
  Scene scene;
  scene.close(1000, "bye");
  scene.turn();
  scene.receive(scene.client.text("late"));
  CHECK(scene.told().empty());
  scene.receive(scene.client.close(1000, "bye"));
  CHECK(scene.told() == "end");
  CHECK(scene.end() == "plugin normal 1000 'bye' clean");
}

TEST_CASE("a bridge that closes in on_message gets no further message of the same read") {
  Scene scene;
  scene.on_message = [&](MessageType, std::string_view) {
    scene.session->close(1000, "enough", metrics::Initiator::plugin);
  };
  scene.receive(scene.client.text("one") + scene.client.text("two"));
  CHECK(scene.told() == "text 'one'");
  CHECK(scene.client_got() == "close 1000 'enough'");
}

TEST_CASE("what follows the client's Close frame is ignored (RFC 6455 5.5.1)") {
  Scene scene;
  WebSocketPeer another;
  scene.receive(scene.client.close(1000) + another.text("late"));
  scene.receive(another.text("later"));
  CHECK(scene.told() == "end");
  CHECK(scene.end() == "client normal 1000 '' clean");
}

TEST_CASE("the answer to a Close frame echoes its code and reason (RFC 6455 5.5.1)") {
  Scene scene;
  scene.receive(scene.client.close(4321, "because"));
  CHECK(scene.client_got() == "close 4321 'because'");
  CHECK(scene.end() == "client application 4321 'because' clean");
}

TEST_CASE("an empty Close frame is answered with one, and means 1005 (RFC 6455 7.1.5)") {
  Scene scene;
  scene.receive(scene.client.close(ws::no_status));
  CHECK(scene.client_got() == "close 1005 ''");
  CHECK(scene.end() == "client normal 1005 '' clean");
}

TEST_CASE("both ends close at the same time: one Close frame each, and the close is clean") {
  Scene scene;
  scene.close(4000, "ours");
  scene.receive(scene.client.close(4001, "theirs"));
  CHECK(scene.client_got() == "close 4000 'ours'");
  CHECK(scene.end() == "plugin application 4001 'theirs' clean");
}

TEST_CASE("bufferedAmount is what was sent and not handed to the kernel, headers included") {
  Scene scene;
  scene.send("12345");
  CHECK(scene.session->buffered_amount() == 2 + 5);
  scene.send(letters(200));
  CHECK(scene.session->buffered_amount() == 7 + 4 + 200);
  scene.turn();
  CHECK(scene.session->buffered_amount() == 0);
}

TEST_CASE(
    "what is sent in one turn is gathered, but not beyond 64 KiB before the kernel is asked") {
  Scene scene;
  scene.client_stops_reading();
  scene.send(letters(60'000));
  CHECK(scene.transport.flushes == 0);
  scene.send(letters(60'000));
  CHECK(scene.transport.flushes == 1);
}

TEST_CASE("nothing is delivered from inside of send(), close(), pause() and resume()") {
  // The scene checks it for every call of every test; here all of them have something to deliver.
  Scene scene([](config::Route& route) {
    route.buffers.high_watermark_bytes = 100;
    route.buffers.low_watermark_bytes = 10;
  });
  scene.pause();
  scene.receive(scene.client.text("waits"));
  scene.client_stops_reading();
  scene.send(letters(200));
  scene.turn();
  scene.transport.room = FakeTransport::unlimited;
  scene.transport.flush();
  scene.session->on_flushed();  // a drain is due
  scene.resume();               // a message is due
  scene.send("more");
  CHECK(scene.told().empty());
  scene.turn();
  CHECK(scene.told() == "drain; text 'waits'");
}

TEST_CASE("a close() between a drain that is due and the end of the turn takes its place") {
  Scene scene([](config::Route& route) {
    route.buffers.high_watermark_bytes = 100;
    route.buffers.low_watermark_bytes = 10;
  });
  scene.client_stops_reading();
  scene.send(letters(200));
  scene.turn();
  scene.transport.room = FakeTransport::unlimited;
  scene.transport.flush();
  scene.session->on_flushed();
  scene.close(1000);
  scene.turn();
  CHECK(scene.told().empty());
}
