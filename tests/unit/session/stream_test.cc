// Messages that are passed on in pieces, in both directions (client_socket.h).
#include <string>

#include "scene.h"
#include "ws/close_code.h"

using namespace sluice;
using namespace sluice::test;

namespace {

void streams(config::Route& route) {
  route.target = config::HttpTarget{};
  route.limits.message_bytes_max = 0;
  route.limits.fragments_max = 0;
}

void streams_with_pings(config::Route& route) {
  streams(route);
  route.keepalive.ping_interval_ms = 10'000;
}

}  // namespace

TEST_CASE("a message is delivered in the pieces in which it came") {
  Scene scene(streams);
  scene.receive(scene.client.text("Hello"));
  CHECK(scene.told() == "([5 text 'Hello'])");
  const std::string frame = scene.client.text("Hello");
  scene.receive(frame.substr(0, 8));
  scene.receive(frame.substr(8));
  CHECK(scene.told() == "([5 text 'He'; text 'llo'])");
  CHECK(scene.in().text_messages.get() == 2);
  CHECK(scene.in().text_frames.get() == 2);
  CHECK(scene.in().payload_bytes.get() == 10);
  CHECK(scene.in().message_size.sum.get() == 10);
}

TEST_CASE("fragments keep their boundaries, empty ones too") {
  Scene scene(streams);
  scene.receive(scene.client.fragment("ab", true, false));
  scene.receive(scene.client.fragment("", false, false));
  scene.receive(scene.client.fragment("c", false, true));
  CHECK(scene.told() == "([2 text 'ab']; [0 text '']; [1 text 'c'])");
  CHECK(scene.in().text_messages.get() == 1);
  CHECK(scene.in().continuation_frames.get() == 2);
}

TEST_CASE("a message larger than any buffer is never gathered") {
  Scene scene(streams);
  std::string frame = scene.client.binary(letters(300'000));
  for (std::size_t at = 0; at < frame.size(); at += 65'536) {
    scene.receive(frame.substr(at, 65'536));
    CHECK(scene.waiting.inbound_bytes == 0);
  }
  CHECK(scene.in().binary_messages.get() == 1);
  CHECK(scene.in().message_size.sum.get() == 300'000);
}

TEST_CASE("RFC 6455 8.1: text is validated unless the route says otherwise") {
  Scene strict(streams);
  strict.receive(strict.client.text("\xff"));
  CHECK(strict.end() == "gateway invalid_data 1007 'text is not valid UTF-8' unclean");
  Scene lenient([](config::Route& route) {
    streams(route);
    std::get<config::HttpTarget>(route.target).validate_utf8 = false;
  });
  lenient.receive(lenient.client.text("\xff"));
  CHECK(lenient.told() == "([1 text '\\xff'])");
  CHECK(lenient.end() == "open");
}

TEST_CASE("a frame is sent in pieces, exactly as it was announced") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::text, true, false, 5);
  scene.session->send_payload(as_bytes("He"));
  scene.turn();
  CHECK(scene.transport.taken == std::string("\x01\x05He"));
  CHECK(scene.session->in_frame());
  scene.session->send_payload(as_bytes("llo"));
  scene.session->begin_frame(MessageType::text, false, true, 0);
  scene.turn();
  CHECK(scene.transport.taken == std::string("\x01\x05Hello\x80\x00", 9));
  CHECK_FALSE(scene.session->in_frame());
  CHECK(scene.out().text_messages.get() == 1);
  CHECK(scene.out().text_frames.get() == 1);
  CHECK(scene.out().continuation_frames.get() == 1);
  CHECK(scene.out().payload_bytes.get() == 5);
  CHECK(scene.out().message_size.sum.get() == 5);
}

namespace {

// "He" and "llo" of one frame, or all of it.
MessagePiece piece_of(std::string_view payload, bool begins, bool ends) {
  return {.type = MessageType::text,
          .message_start = begins,
          .frame_start = begins,
          .frame_end = ends,
          .fin = true,
          .frame_payload_bytes = 5,
          .payload = as_bytes(payload)};
}

}  // namespace

TEST_CASE("what another session has received is passed on, in one piece as in several") {
  Scene whole(streams);
  whole.session->pass_on(piece_of("Hello", true, true));
  Scene pieces(streams);
  pieces.session->pass_on(piece_of("He", true, false));
  CHECK(pieces.session->in_frame());
  pieces.session->pass_on(piece_of("llo", false, true));
  for (Scene* scene : {&whole, &pieces}) {
    scene->turn();
    CHECK(scene->transport.taken == "\x81\x05Hello");
    CHECK_FALSE(scene->session->in_frame());
    CHECK(scene->out().text_messages.get() == 1);
    CHECK(scene->out().text_frames.get() == 1);
    CHECK(scene->out().payload_bytes.get() == 5);
    CHECK(scene->out().wire_bytes.get() == 7);
    CHECK(scene->out().message_size.sum.get() == 5);
    CHECK(scene->session->totals().messages[metrics::upstream_to_client] == 1);
    CHECK(scene->session->totals().payload_bytes[metrics::upstream_to_client] == 5);
  }
}

TEST_CASE("fragments, empty messages and compressed ones keep their form when they are passed on") {
  Scene scene(streams);
  MessagePiece piece = piece_of("Hello", true, true);
  piece.fin = false;
  scene.session->pass_on(piece);
  piece.message_start = false;
  piece.fin = true;
  scene.session->pass_on(piece);
  piece = piece_of("", true, true);
  piece.frame_payload_bytes = 0;
  scene.session->pass_on(piece);
  piece = piece_of("Hello", true, true);
  piece.compressed = true;
  scene.session->pass_on(piece);
  scene.turn();
  CHECK(scene.transport.taken ==
        std::string("\x01\x05Hello\x80\x05Hello\x81\x00\xc1\x05Hello", 23));
  CHECK(scene.out().text_messages.get() == 3);
  CHECK(scene.out().continuation_frames.get() == 1);
  CHECK(scene.out().message_size.sum.get() == 15);
}

TEST_CASE("nothing is passed on once the session closes") {
  Scene scene(streams);
  scene.session->close(1000, "", metrics::Initiator::gateway);
  scene.turn();
  const std::string taken = scene.transport.taken;
  scene.session->pass_on(piece_of("Hello", true, true));
  scene.turn();
  CHECK(scene.transport.taken == taken);
}

TEST_CASE("RFC 6455 5.5.2: a pong waits for the end of the frame, and only the latest is sent") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::binary, true, true, 2);
  scene.session->send_payload(as_bytes("a"));
  scene.receive(scene.client.ping("1"));
  scene.receive(scene.client.ping("2"));
  scene.turn();
  CHECK(scene.transport.taken == std::string("\x82\x02"
                                             "a"));
  scene.session->send_payload(as_bytes("b"));
  scene.turn();
  CHECK(scene.transport.taken == std::string("\x82\x02"
                                             "ab\x8a\x01"
                                             "2"));
}

TEST_CASE("what is counted is what is sent, also if the frame's end brings a pong along") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::binary, true, true, 100'000);
  scene.receive(scene.client.ping("1"));
  scene.session->send_payload(as_bytes(letters(30'000)));
  scene.session->send_payload(as_bytes(letters(70'000)));  // so much leaves at once
  scene.turn();
  CHECK(scene.transport.taken.size() == 10 + 100'000 + 3);
  CHECK(scene.out().wire_bytes.get() == scene.transport.taken.size());
}

TEST_CASE("what is compressed is in no frame that a Close waits for, and renews no deadline") {
  ws::CompressionPool pool(1 << 20);
  Scene scene(streams, &pool);
  scene.session->begin_frame(MessageType::binary, true, true, 1'000);
  scene.session->send_payload(as_bytes(letters(100)));
  scene.close();
  CHECK(scene.out().close_frames.get() == 1);
  for (int i = 0; i < 6; ++i) {
    scene.session->send_payload(as_bytes(letters(100)));
    scene.wait(1'000);
  }
  CHECK(scene.end() == "plugin close_timeout 1006 '' unclean");
  CHECK(scene.out().payload_bytes.get() == 100);
}

TEST_CASE("no ping is sent in the midst of a frame") {
  Scene scene(streams_with_pings);
  scene.session->begin_frame(MessageType::binary, true, true, 2);
  scene.wait(60'000);
  CHECK(scene.transport.taken == std::string("\x82\x02"));
  CHECK(scene.end() == "open");
  scene.session->send_payload(as_bytes("ab"));
  scene.wait(10'000);
  CHECK(scene.out().ping_frames.get() == 1);
}

TEST_CASE("the client's Close is answered behind the frame that is being sent") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::binary, true, true, 2);
  scene.session->send_payload(as_bytes("a"));
  scene.receive(scene.client.close(4001, "bye"));
  CHECK(scene.end() == "open");
  CHECK(scene.session->ready_state() == ReadyState::closing);
  scene.session->send_payload(as_bytes("b"));
  scene.turn();
  CHECK(scene.end() == "client application 4001 'bye' clean");
  CHECK(scene.client_got() == "binary 'ab'; close 4001 'bye'");
}

TEST_CASE("a frame that is never finished holds up the Close for timeouts.close, no longer") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::binary, true, true, 2);
  scene.receive(scene.client.close(1000, ""));
  scene.wait(scene.route.timeouts.close_ms + 200);
  // RFC 6455 7.1.5: the client's Close frame did come.
  CHECK(scene.end() == "client close_timeout 1000 '' unclean");
  CHECK(scene.detail() == "a frame was not finished within timeouts.close");
}

TEST_CASE("timeouts.close runs from the last bytes of the frame that the Close waits for") {
  Scene scene(streams);
  const std::uint64_t nearly = scene.route.timeouts.close_ms - 500;
  scene.session->begin_frame(MessageType::binary, true, true, 3);
  scene.receive(scene.client.close(1000, ""));
  for (int i = 0; i < 3; ++i) {
    scene.wait(nearly);
    CHECK(scene.end() == "open");
    scene.session->send_payload(as_bytes("a"));
  }
  CHECK(scene.end() == "client normal 1000 '' clean");
}

TEST_CASE("the frame that the client's Close waits for goes on when the client reads again") {
  Scene scene(streams);
  const std::string half = letters(300'000);
  scene.client_stops_reading();
  scene.session->begin_frame(MessageType::binary, true, true, 2 * half.size());
  scene.session->send_payload(as_bytes(half));
  scene.turn();
  CHECK(scene.session->buffered_amount() > scene.route.buffers.high_watermark_bytes);
  scene.receive(scene.client.close(1000, ""));
  CHECK(scene.told().empty());
  scene.client_reads();
  CHECK(scene.told() == "drain");
  scene.session->send_payload(as_bytes(half));
  scene.turn();
  CHECK(scene.told() == "end");
  CHECK(scene.end() == "client normal 1000 '' clean");
}

TEST_CASE("while the client's Close waits for a frame, no unanswered ping holds against it") {
  Scene scene(streams_with_pings);
  scene.wait(10'100);
  CHECK(scene.client_got() == "ping");
  scene.session->begin_frame(MessageType::binary, true, true, 30);
  scene.receive(scene.client.close(1000, ""));
  for (int i = 0; i < 29; ++i) {
    scene.wait(4'000);
    scene.session->send_payload(as_bytes("a"));
  }
  CHECK(scene.end() == "open");
  CHECK(scene.out().ping_frames.get() == 1);
}

TEST_CASE("a client that has closed may end its direction, and gets the frame and our Close") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::binary, true, true, 2);
  scene.receive(scene.client.close(1000, "bye"));
  scene.session->on_peer_end();
  scene.turn();
  CHECK(scene.end() == "open");
  scene.session->send_payload(as_bytes("ab"));
  scene.turn();
  CHECK(scene.end() == "client normal 1000 'bye' clean");
  CHECK(scene.client_got() == "binary 'ab'; close 1000 'bye'");
}

TEST_CASE("our own Close waits for the frame's end, and no further frame is begun") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::binary, true, false, 2);
  scene.session->close_by_rule(ws::going_away, metrics::CloseReason::drain, "shutting down");
  scene.turn();
  CHECK(scene.out().close_frames.get() == 0);
  scene.session->send_payload(as_bytes("ab"));
  scene.session->begin_frame(MessageType::binary, false, true, 1);
  scene.turn();
  CHECK(scene.transport.taken.substr(0, 4) == std::string("\x02\x02"
                                                          "ab"));
  CHECK(scene.transport.taken.substr(4) == std::string("\x88\x0f\x03\xe9shutting down"));
  scene.receive(scene.client.close(1001, ""));
  CHECK(scene.end() == "gateway drain 1001 '' clean");
}

TEST_CASE("a violation in the midst of a frame drops the connection: no Close can be sent") {
  Scene scene(streams);
  scene.session->begin_frame(MessageType::binary, true, true, 2);
  scene.receive("\x83\x80zzzz");
  CHECK(scene.end().starts_with("gateway protocol_error 1006"));
  CHECK(scene.out().close_frames.get() == 0);
}

TEST_CASE("what the client sent before it heard of close_with() is still delivered") {
  Scene scene(streams);
  scene.session->close_with({.code = ws::normal, .text = ""});
  scene.turn();
  scene.receive(scene.client.text("late"));
  CHECK(scene.told() == "([4 text 'late'])");
  scene.receive(scene.client.close(1000, ""));
  CHECK(scene.told() == "end");
  CHECK(scene.end() == "upstream normal 1000 '' clean");
}

TEST_CASE(
    "what is still delivered behind close_with() gives the client time, if anybody takes it") {
  Scene scene(streams);
  const std::uint64_t nearly = scene.route.timeouts.close_ms - 500;
  scene.session->close_with({.code = ws::normal, .text = ""});
  for (int i = 0; i < 3; ++i) {
    scene.wait(nearly);
    scene.receive(scene.client.text("taken"));
    CHECK(scene.end() == "open");
  }
  scene.takes = false;
  scene.wait(nearly);
  scene.receive(scene.client.text("for nobody"));
  CHECK(scene.end() == "open");
  scene.wait(nearly);
  CHECK(scene.end() == "upstream close_timeout 1006 '' unclean");
}

TEST_CASE("a limit of which a CLOSING client makes too much does not change why it was closed") {
  Scene scene([](config::Route& route) {
    streams(route);
    route.limits.messages_per_second = 1;
  });
  scene.session->close_with({.code = ws::normal, .text = "bye"});
  scene.receive(scene.client.text("1") + scene.client.text("2"));
  CHECK(scene.end() == "upstream normal 1006 '' unclean");
  CHECK(scene.detail() == "limits.messages_per_second");
  CHECK(scene.rejections(metrics::Limit::messages_per_second) == 1);
}

TEST_CASE("a limit of the protocol is counted in the midst of a frame too") {
  Scene scene([](config::Route& route) {
    streams(route);
    route.limits.message_bytes_max = 10;
  });
  scene.session->begin_frame(MessageType::binary, true, true, 2);
  scene.receive(scene.client.text(letters(11)));
  CHECK(scene.end().starts_with("gateway message_too_big"));
  CHECK(scene.rejections(metrics::Limit::message_size) == 1);
}

TEST_CASE("close_with() sends any code, and an empty Close for one that may not be sent") {
  Scene scene(streams);
  scene.session->close_with({.code = 1014, .text = "upstream lost"});
  scene.turn();
  CHECK(scene.transport.taken == std::string("\x88\x0f\x03\xf6upstream lost"));
  Scene empty(streams);
  empty.session->close_with({.code = 1005, .text = ""});
  empty.turn();
  CHECK(empty.transport.taken == std::string("\x88\x00", 2));
}

TEST_CASE("a client that does not read is still read: the two directions are the upstream's") {
  Scene scene(streams);
  scene.client_stops_reading();
  while (scene.session->buffered_amount() <= scene.route.buffers.high_watermark_bytes) {
    scene.send(MessageType::binary, letters(60'000));
    scene.turn();
  }
  CHECK(scene.transport.reading);
  scene.receive(scene.client.text("still here"));
  CHECK(scene.told() == "([10 text 'still here'])");
  scene.client_reads();
  CHECK(scene.told() == "drain");
}
