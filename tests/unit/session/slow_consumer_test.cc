// What happens to a client that does not read what it is sent, and to one that is not read.
#include "scene.h"

using namespace sluice;
using namespace sluice::test;

namespace {

// A frame with 96 bytes of payload has 98 bytes on the wire.
const std::string message_98 = letters(96);

std::function<void(config::Route&)> buffers(config::SlowConsumer policy) {
  return [policy](config::Route& route) {
    route.slow_consumer = policy;
    route.buffers = {.high_watermark_bytes = 1000,
                     .low_watermark_bytes = 300,
                     .high_watermark_timeout_ms = 10'000,
                     .limit_bytes = 2000};
    route.limits.message_bytes_max = 1'000'000;
  };
}

void send_98(Scene& scene, int count) {
  for (int i = 0; i < count; ++i) scene.send(message_98);
  scene.turn();
}

void send_numbered(Scene& scene, int first, int last) {
  for (int i = first; i <= last; ++i) scene.send(std::to_string(i) + letters(94));
  scene.turn();
}

// Whether some of what is to be sent stands elsewhere: in more than a chunk's room.
bool borrows(Scene& scene) {
  iovec vectors[16];
  const int count = scene.transport.output().peek(vectors, 16);
  return std::any_of(vectors, vectors + count,
                     [](const iovec& piece) { return piece.iov_len > ChunkPool::chunk_bytes; });
}

// "10 11 12": the numbers that stand at the front of what send_numbered() sent.
std::string numbers(Scene& scene) {
  const std::string bytes = std::move(scene.transport.taken);
  scene.transport.taken.clear();
  std::string lines;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto size = static_cast<std::size_t>(static_cast<unsigned char>(bytes[at + 1]));
    const std::string payload = bytes.substr(at + 2, size);
    if (!lines.empty()) lines += ' ';
    lines += payload.substr(0, payload.find('x'));
    at += 2 + size;
  }
  return lines;
}

}  // namespace

TEST_CASE("over the high watermark the client is not read, under the low one it is again") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  send_98(scene, 10);
  CHECK(scene.session->buffered_amount() == 980);
  CHECK(scene.transport.reading);
  send_98(scene, 1);
  CHECK_FALSE(scene.transport.reading);
  CHECK(scene.waiting.paused);
  CHECK(scene.waiting.read_paused);

  scene.client_reads(778);  // 1078 - 778 = 300, the low watermark
  CHECK(scene.transport.reading);
  CHECK_FALSE(scene.waiting.paused);
  CHECK(scene.told() == "drain");
}

TEST_CASE("between the watermarks nothing changes: no drain, and reading stays as it is") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  send_98(scene, 11);
  scene.client_reads(777);  // one byte over the low watermark
  CHECK_FALSE(scene.transport.reading);
  send_98(scene, 2);
  scene.client_reads(10);
  CHECK(scene.told().empty());
  CHECK(scene.counters.pauses.get() == 1);
  CHECK(scene.counters.resumes.get() == 0);
}

TEST_CASE("a burst that the kernel takes at once is no reason to pause") {
  Scene scene(buffers(config::SlowConsumer::pause));
  send_98(scene, 500);
  CHECK(scene.counters.pauses.get() == 0);
  CHECK(scene.transport.reading);
}

TEST_CASE("who has seen the buffer over the high watermark hears when it is under the low one") {
  const auto over_then_left = [](std::size_t left) {
    Scene scene(buffers(config::SlowConsumer::pause));
    for (int i = 0; i < 11; ++i) scene.send(message_98);  // the kernel is asked when the turn ends
    CHECK(scene.session->buffered_amount() > 1000);
    scene.transport.room = scene.session->buffered_amount() - left;
    scene.turn();
    const std::string at_once = scene.told();
    scene.client_reads();
    return at_once + "|" + scene.told();
  };
  CHECK(over_then_left(0) == "drain|");
  CHECK(over_then_left(200) == "drain|");
  CHECK(over_then_left(600) == "|drain");
  CHECK(over_then_left(1050) == "|drain");
}

TEST_CASE("a client for which somebody waits is slow, although the kernel took what was over") {
  Scene scene(buffers(config::SlowConsumer::close));
  for (int i = 0; i < 11; ++i) scene.send(message_98);
  CHECK(scene.session->buffered_amount() > 1000);
  scene.transport.room = scene.session->buffered_amount() - 600;
  scene.turn();
  CHECK(scene.waiting.paused);
  scene.wait(scene.route.buffers.high_watermark_timeout_ms + 200);
  CHECK(scene.counters.slow_consumer_closes.get() == 1);
}

TEST_CASE("what TLS has encrypted counts for the watermark that somebody has seen") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.transport.encrypted = 200;
  while (scene.session->buffered_amount() <= 1000) scene.send(message_98);
  CHECK(scene.transport.output().size() < 1000);
  scene.transport.encrypted = 0;
  scene.turn();
  CHECK(scene.told() == "drain");
}

TEST_CASE("the time over the watermark is counted when it ends") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  send_98(scene, 11);
  scene.wait(4'000);
  CHECK(scene.counters.paused_ms.get() == 0);
  scene.client_reads();
  CHECK(scene.counters.paused_ms.get() == 4'000);
  CHECK(scene.counters.read_paused_ms.get() == 4'000);
  CHECK(scene.counters.pauses.get() == 1);
  CHECK(scene.counters.resumes.get() == 1);
}

TEST_CASE("the time over the watermark is counted once when the socket ends over it") {
  Scene scene(buffers(config::SlowConsumer::drop_newest));
  scene.client_stops_reading();
  send_98(scene, 8);
  scene.send(letters(500));  // dropped: it would be over the high watermark
  scene.transport.encrypted = 900;
  scene.turn();
  REQUIRE(scene.counters.pauses.get() == 1);
  scene.wait(4'000);
  scene.receive(scene.client.close(1000));
  REQUIRE(scene.counters.paused_ms.get() == 4'000);
  scene.transport.encrypted = 0;
  scene.client_reads();  // what is left is flushed after the end
  CHECK(scene.counters.paused_ms.get() == 4'000);
}

TEST_CASE("a socket that has ended does not go over the watermark any more") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  for (int i = 0; i < 11; ++i) scene.send(message_98);  // the kernel is asked when the turn ends
  scene.receive(scene.client.close(1000));
  CHECK(scene.end() == "client normal 1000 '' clean");
  CHECK(scene.session->buffered_amount() > 1000);
  CHECK_FALSE(scene.waiting.paused);
  CHECK(scene.counters.pauses.get() == 0);
  CHECK(scene.counters.resumes.get() == 0);
}

TEST_CASE("pause: over the limit the client is closed with 1013") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  for (int i = 0; i < 100; ++i) send_98(scene, 1);
  // No more than the limit, one message, and the Close frame.
  CHECK(scene.session->buffered_amount() <= 2000 + 98 + 125);
  CHECK(scene.session->ready_state() == ReadyState::closing);
  CHECK(scene.counters.slow_consumer_closes.get() == 1);
  CHECK(scene.rejections(metrics::Limit::buffer) == 1);
  scene.wait(5'100);
  CHECK(scene.end() == "gateway slow_consumer 1006 '' unclean");
  CHECK(scene.detail() == "buffers.limit, no Close frame within timeouts.close");
}

TEST_CASE("pause: a client that stays between high watermark and limit is not closed for it") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  send_98(scene, 15);
  scene.wait(3'600'000);
  CHECK(scene.end() == "open");
}

TEST_CASE("pause: a route that relays is not closed for the limit: it stops by itself") {
  const auto rules = buffers(config::SlowConsumer::pause);
  Scene scene([&](config::Route& route) {
    rules(route);
    route.target = config::TcpTarget{};
  });
  scene.client_stops_reading();
  send_98(scene, 11);
  CHECK(scene.waiting.paused);
  for (int i = 0; i < 100; ++i) send_98(scene, 1);  // the rest of what was read at once
  CHECK(scene.session->ready_state() == ReadyState::open);
  CHECK(scene.session->buffered_amount() == 111 * 98);
  scene.client_reads();
  CHECK(scene.told() == "drain");
  CHECK(scene.counters.slow_consumer_closes.get() == 0);
}

TEST_CASE("close: a client over the high watermark for its timeout is closed with 1013") {
  Scene scene(buffers(config::SlowConsumer::close));
  scene.client_stops_reading();
  send_98(scene, 11);
  CHECK_FALSE(scene.transport.reading);
  scene.wait(9'900);
  CHECK(scene.session->ready_state() == ReadyState::open);
  scene.wait(200);
  CHECK(scene.session->ready_state() == ReadyState::closing);
  CHECK(scene.counters.slow_consumer_closes.get() == 1);
  CHECK(scene.rejections(metrics::Limit::buffer) == 0);
  scene.client_reads();
  CHECK(scene.client_got().ends_with("close 1013 'buffers.high_watermark_timeout'"));
  scene.receive(scene.client.close(1013));
  CHECK(scene.end() == "gateway slow_consumer 1013 '' clean");
}

TEST_CASE("close: a client that comes back under the low watermark in time stays") {
  Scene scene(buffers(config::SlowConsumer::close));
  for (int i = 0; i < 5; ++i) {
    scene.client_stops_reading();
    send_98(scene, 11);
    scene.wait(9'000);
    scene.client_reads();
    CHECK(scene.told() == "drain");
  }
  scene.wait(60'000);
  CHECK(scene.end() == "open");
}

TEST_CASE("drop_newest: what would go over the high watermark is dropped and counted") {
  Scene scene(buffers(config::SlowConsumer::drop_newest));
  scene.client_stops_reading();
  send_numbered(scene, 10, 10);  // the kernel refuses it
  send_numbered(scene, 11, 29);
  CHECK(scene.session->buffered_amount() == 980);
  CHECK(scene.counters.messages_dropped_newest.get() == 10);
  CHECK(scene.transport.reading);  // the client may still speak
  scene.client_reads();
  CHECK(numbers(scene) == "10 11 12 13 14 15 16 17 18 19");
}

TEST_CASE("drop_oldest: the latest messages stay, the older ones are dropped and counted") {
  Scene scene(buffers(config::SlowConsumer::drop_oldest));
  scene.client_stops_reading();
  send_numbered(scene, 10, 10);  // has begun to be sent: stays
  send_numbered(scene, 11, 39);
  CHECK(scene.session->buffered_amount() == 980);
  CHECK(scene.counters.messages_dropped_oldest.get() == 20);
  CHECK(scene.transport.reading);
  scene.client_reads();
  CHECK(numbers(scene) == "10 31 32 33 34 35 36 37 38 39");
  CHECK(scene.session->buffered_amount() == 0);
}

TEST_CASE("drop_oldest: a message that has begun to be sent is sent whole") {
  Scene scene(buffers(config::SlowConsumer::drop_oldest));
  scene.client_stops_reading();
  send_numbered(scene, 10, 10);
  send_numbered(scene, 11, 20);
  scene.client_reads(98 + 40);  // the eleventh is on its way
  send_numbered(scene, 21, 60);
  scene.client_reads();
  const std::string got = numbers(scene);
  CHECK(got.starts_with("10 12 "));
  CHECK(got.ends_with(" 60"));
}

TEST_CASE("drop_oldest: messages that wait go before the Close frame, and none after it") {
  Scene scene(buffers(config::SlowConsumer::drop_oldest));
  scene.client_stops_reading();
  for (const char* text : {"a", "b", "c"}) {
    scene.send(text);
    scene.turn();
  }
  scene.close(1000, "bye");
  scene.client_reads();
  CHECK(scene.client_got() == "text 'a'; text 'b'; text 'c'; close 1000 'bye'");
}

TEST_CASE("drop_oldest: every message is sent or counted as dropped, whatever the client does") {
  std::uint32_t random = 1;
  const auto next = [&random](std::uint32_t n) {
    random = random * 1664525 + 1013904223;
    return (random >> 8) % n;
  };
  for (int round = 0; round < 200; ++round) {
    Scene scene(buffers(round % 2 == 0 ? config::SlowConsumer::drop_oldest
                                       : config::SlowConsumer::drop_newest));
    scene.client_stops_reading();
    std::uint64_t sent = 0;
    for (int step = 0; step < 60; ++step) {
      if (next(3) == 0) {
        scene.client_reads(next(500));
      } else {
        scene.send(letters(next(300)));
        ++sent;
        scene.turn();
      }
      REQUIRE(scene.session->buffered_amount() <= 1000 + 304);
    }
    scene.client_reads();
    const std::uint64_t dropped =
        scene.counters.messages_dropped_oldest.get() + scene.counters.messages_dropped_newest.get();
    REQUIRE(scene.out().text_messages.get() + dropped == sent);
    REQUIRE(scene.session->buffered_amount() == 0);
    REQUIRE(scene.client_got().find("BROKEN") == std::string::npos);
  }
}

TEST_CASE("what TLS holds counts as buffered") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  send_98(scene, 1);
  scene.transport.encrypted = 950;
  scene.turn();
  CHECK(scene.session->buffered_amount() == 98 + 950);
  CHECK(scene.waiting.app_bytes == 98);
  CHECK(scene.waiting.tls_bytes == 950);
  CHECK(scene.waiting.paused);
}

TEST_CASE("reasons for not reading do not undo each other") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  send_98(scene, 11);
  scene.pause();
  scene.client_reads();
  CHECK_FALSE(scene.transport.reading);  // the bridge still wants none
  scene.resume();
  CHECK(scene.transport.reading);
  // And the other way round.
  scene.pause();
  scene.client_stops_reading();
  send_98(scene, 11);
  scene.resume();
  CHECK_FALSE(scene.transport.reading);
  scene.client_reads();
  CHECK(scene.transport.reading);
  CHECK(scene.counters.read_pauses.get() == 2);
  CHECK(scene.counters.read_resumes.get() == 2);
}

TEST_CASE("resume() after the end leaves reading to whoever lingers, and the counters alone") {
  Scene scene(buffers(config::SlowConsumer::pause));
  scene.client_stops_reading();
  send_98(scene, 11);
  scene.pause();
  scene.session->abort(metrics::Initiator::gateway, metrics::CloseReason::drain, "test");
  scene.transport.read(true);  // until the client closes too
  scene.resume();
  CHECK(scene.transport.reading);
  CHECK_FALSE(scene.waiting.read_paused);
  CHECK(scene.counters.read_pauses.get() == 1);
  CHECK(scene.counters.read_resumes.get() == 1);
}

TEST_CASE("pause() twice and resume() once: it reads, as a switch does") {
  Scene scene;
  scene.pause();
  scene.pause();
  scene.resume();
  CHECK(scene.transport.reading);
  CHECK(scene.counters.read_pauses.get() == 1);
}

TEST_CASE("what was received before a pause took effect waits, in order, and is delivered later") {
  Scene scene;
  scene.on_message = [&](MessageType, std::string_view) { scene.session->pause(Session::asked); };
  scene.receive(scene.client.text("one") + scene.client.text("two") + scene.client.text("three"));
  CHECK(scene.told() == "text 'one'");
  CHECK_FALSE(scene.transport.reading);
  CHECK(scene.waiting.inbound_bytes == (6 + 3) + (6 + 5));
  scene.receive(scene.client.text("four"));  // TLS had it decrypted already
  CHECK(scene.told().empty());
  CHECK(scene.waiting.inbound_bytes == 9 + 11 + 10);

  for (const char* expected : {"text 'two'", "text 'three'", "text 'four'"}) {
    scene.resume();
    CHECK_FALSE(scene.transport.reading);  // what is stashed comes before what is in the kernel
    scene.turn();
    CHECK(scene.told() == expected);
  }
  CHECK(scene.waiting.inbound_bytes == 0);
  scene.resume();
  scene.turn();
  CHECK(scene.transport.reading);
}

TEST_CASE("a pause in the middle of a message keeps both its halves") {
  Scene scene;
  const std::string bytes = scene.client.text(letters(50));
  scene.receive(bytes.substr(0, 20));
  scene.pause();
  scene.receive(bytes.substr(20));
  CHECK(scene.told().empty());
  scene.resume();
  scene.turn();
  CHECK(scene.told() == "text '" + letters(50) + "'");
}

TEST_CASE("any split and any pauses give the same messages") {
  std::uint32_t random = 7;
  const auto next = [&random](std::uint32_t n) {
    random = random * 1664525 + 1013904223;
    return (random >> 8) % n;
  };
  for (int round = 0; round < 100; ++round) {
    Scene scene;
    std::string bytes;
    std::string expected;
    for (int i = 0; i < 10; ++i) {
      const std::string payload = std::to_string(i) + letters(next(200));
      bytes += scene.client.text(payload);
      if (!expected.empty()) expected += "; ";
      expected += shown(MessageType::text, as_bytes(payload));
    }
    scene.on_message = [&](MessageType, std::string_view) {
      if (next(2) == 0) scene.session->pause(Session::asked);
    };
    std::string got;
    const auto collect = [&] {
      const std::string told = scene.told();
      if (!told.empty() && !got.empty()) got += "; ";
      got += told;
    };
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = 1 + next(150);
      scene.receive(bytes.substr(at, size));
      at += size;
      collect();
      if (next(2) == 0) scene.resume();
      scene.turn();
      collect();
    }
    for (int i = 0; i < 20; ++i) {
      scene.resume();
      scene.turn();
      collect();
    }
    REQUIRE(got == expected);
  }
}

TEST_CASE("close() while paused: the peer's Close frame is found in what was stashed") {
  Scene scene;
  scene.pause();
  scene.receive(scene.client.text("unseen") + scene.client.close(1000));
  scene.close(4000);
  CHECK(scene.told().empty());
  scene.turn();
  CHECK(scene.told() == "end");
  CHECK(scene.end() == "plugin application 1000 '' clean");
}

TEST_CASE("the end of the stream waits for what was received before it") {
  Scene scene;
  scene.on_message = [&](MessageType, std::string_view) { scene.session->pause(Session::asked); };
  // One TLS read may bring all of this and close_notify.
  const std::string bytes = scene.client.text("one") + scene.client.text("two");
  std::string all = bytes + scene.client.close(1000, "bye");
  scene.session->receive({reinterpret_cast<std::uint8_t*>(all.data()), all.size()});
  scene.session->on_peer_end();
  scene.turn();
  CHECK(scene.told() == "text 'one'");
  scene.resume();
  scene.turn();
  scene.resume();
  scene.turn();
  CHECK(scene.told() == "text 'two'; end");
  CHECK(scene.end() == "client normal 1000 'bye' clean");
}

TEST_CASE("a message for many leaves at once, one for a few at the end of the turn") {
  Scene scene;
  ws::PreparedMessage few(MessageType::text, as_bytes("few"), 2);
  scene.session->send_prepared(few);
  CHECK(scene.transport.taken.empty());
  scene.turn();
  CHECK(scene.client_got() == "text 'few'");
  ws::PreparedMessage many(MessageType::text, as_bytes("many"), 1000);
  const std::size_t taken = scene.transport.taken.size();
  scene.session->send_prepared(many);
  CHECK(scene.transport.taken.size() == taken + 6);
  CHECK(scene.session->buffered_amount() == 0);
  CHECK(scene.out().text_messages.get() == 2);
  CHECK(scene.out().payload_bytes.get() == 7);
}

TEST_CASE("a large message is not copied, but for what the kernel has not taken of it") {
  Scene scene;
  auto text = std::make_unique<std::string>(letters(20'000) + letters(20'000, 'y'));
  std::optional<ws::PreparedMessage> message(std::in_place, MessageType::text, as_bytes(*text), 2);
  bool lent = false;
  scene.transport.on_flush = [&] { lent = borrows(scene); };
  CHECK(scene.session->send_prepared(*message));
  CHECK(lent);
  CHECK(scene.session->buffered_amount() == 0);
  CHECK(scene.client_got() == "text (40000 bytes)");

  scene.transport.room = 20'000;
  CHECK(scene.session->send_prepared(*message));
  CHECK(scene.session->buffered_amount() == 20'004);
  CHECK(scene.waiting.app_bytes == 20'004);
  CHECK_FALSE(borrows(scene));
  CHECK(scene.session->send_prepared(*message));  // behind it, and copied
  CHECK_FALSE(borrows(scene));
  CHECK(scene.transport.flushes == 2);
  message.reset();
  text.reset();  // a sanitizer sees who still looks at it
  scene.client_reads();
  CHECK(scene.transport.taken.substr(20'000, 8) == "xxxxyyyy");
  CHECK(scene.transport.taken.substr(40'004, 8) == scene.transport.taken.substr(0, 8));
  CHECK(scene.client_got() == "text (40000 bytes); text (40000 bytes)");
  CHECK(scene.out().wire_bytes.get() == 3 * 40'004);
}

TEST_CASE("small messages that stand before a large one leave with it") {
  Scene scene;
  scene.send("before");
  const std::string text = letters(40'000);
  ws::PreparedMessage message(MessageType::binary, as_bytes(text), 2);
  CHECK(scene.session->send_prepared(message));
  CHECK(scene.transport.flushes == 1);
  CHECK(scene.client_got() == "text 'before'; binary (40000 bytes)");
}

TEST_CASE("a stream that breaks under a large message keeps nothing of it") {
  Scene scene;
  const std::string text = letters(40'000);
  ws::PreparedMessage message(MessageType::text, as_bytes(text), 2);
  scene.transport.room = 10'000;
  scene.transport.on_flush = [&] {
    scene.session->on_failure(net::FailureKind::reset, Error{"reset"});
  };
  CHECK_FALSE(scene.session->send_prepared(message));
  CHECK(scene.transport.output().size() == 30'004);
  CHECK_FALSE(borrows(scene));
  CHECK(scene.told() == "end");
  CHECK_FALSE(scene.session->send_prepared(message));
}

TEST_CASE("a message for many is dropped, held or too much for one that does not read, as any") {
  const std::string text = letters(600);
  ws::PreparedMessage message(MessageType::text, as_bytes(text), 1000);
  // What send_prepared() says of each until the high watermark is passed, and the limit.
  const auto answers = [&](Scene& scene) {
    scene.transport.room = 0;
    std::string said;
    for (int i = 0; i < 5; ++i) said += scene.session->send_prepared(message) ? "y" : "n";
    return said;
  };
  Scene newest(buffers(config::SlowConsumer::drop_newest));
  CHECK(answers(newest) == "ynnnn");
  CHECK(newest.counters.messages_dropped_newest.get() == 4);
  CHECK(newest.session->buffered_amount() == 604);

  // What is held may still be dropped, and is counted then.
  Scene oldest(buffers(config::SlowConsumer::drop_oldest));
  CHECK(answers(oldest) == "yyyyy");
  CHECK(oldest.counters.messages_dropped_oldest.get() == 3);
  CHECK(oldest.session->buffered_amount() == 2 * 604);

  Scene paused(buffers(config::SlowConsumer::pause));
  CHECK(answers(paused) == "yyyyn");
  CHECK(paused.rejections(metrics::Limit::buffer) == 1);
  CHECK(paused.session->ready_state() == ReadyState::closing);
  CHECK_FALSE(paused.session->send_prepared(message));
  CHECK(paused.out().text_messages.get() == 4);
}
