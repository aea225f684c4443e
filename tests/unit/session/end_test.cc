// How a session ends: who, why, with which code, and what is counted on the way.
#include "scene.h"
#include "ws/close_code.h"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("the client's close code gives the reason") {
  const struct {
    std::uint16_t code;
    std::string reason;
  } rows[] = {{1000, "normal"},          {1001, "going_away"},   {1002, "protocol_error"},
              {1003, "application"},     {1007, "invalid_data"}, {1008, "policy"},
              {1009, "message_too_big"}, {1011, "application"},  {3000, "application"},
              {4999, "application"}};
  for (const auto& row : rows) {
    CAPTURE(row.code);
    Scene scene;
    scene.receive(scene.client.close(row.code));
    CHECK(scene.end() == "client " + row.reason + " " + std::to_string(row.code) + " '' clean");
    CHECK(scene.client_got() == "close " + std::to_string(row.code) + " ''");
  }
}

TEST_CASE("a broken rule fails the connection, with its code on the wire (RFC 6455 7.1.7)") {
  const struct {
    std::string what;
    std::string bytes;
    const char* end;
  } rows[] = {
      {"an unmasked frame", {"\x81\x00", 2}, "gateway protocol_error 1002"},
      {"a reserved opcode", {"\x83\x80\0\0\0\0", 6}, "gateway protocol_error 1002"},
      {"text that is no UTF-8", {"\x81\x81\0\0\0\0\xff", 7}, "gateway invalid_data 1007"},
      {"a message over max_message_size",
       {"\x82\xfe\xff\xff\0\0\0\0", 8},
       "gateway message_too_big 1009"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    Scene scene([](config::Route& route) { route.limits.message_bytes_max = 1000; });
    scene.receive(row.bytes);
    CHECK(scene.told() == "end");
    CHECK(scene.end().starts_with(row.end));
    CHECK(scene.end().ends_with("unclean"));
    const std::string code = std::to_string(scene.session->end()->code);
    CHECK(scene.client_got().starts_with("close " + code));
    CHECK_FALSE(scene.detail().empty());
  }
}

TEST_CASE("messages and fragments over their limits are counted as turned away") {
  Scene big([](config::Route& route) { route.limits.message_bytes_max = 10; });
  big.receive(big.client.text(letters(11)));
  CHECK(big.rejections(metrics::Limit::message_size) == 1);

  Scene fragments([](config::Route& route) { route.limits.fragments_max = 2; });
  fragments.receive(fragments.client.fragment("a", true, false) +
                    fragments.client.fragment("b", false, false) +
                    fragments.client.fragment("c", false, true));
  CHECK(fragments.end().starts_with("gateway policy 1008"));
  CHECK(fragments.rejections(metrics::Limit::fragments) == 1);
}

TEST_CASE("the end of the stream without a Close frame is 1006 (RFC 6455 7.1.5)") {
  Scene scene;
  scene.session->on_peer_end();
  CHECK(scene.end() == "client lost 1006 '' unclean");
}

TEST_CASE("the end of the stream instead of an answer keeps the reason that we closed for") {
  Scene scene;
  scene.close(4000, "ours");
  scene.session->on_peer_end();
  CHECK(scene.end() == "plugin application 1006 '' unclean");
}

TEST_CASE("a broken rule instead of an answer keeps the reason that we closed for") {
  Scene scene;
  scene.close(4000, "ours");
  scene.receive("\xff\xff");
  CHECK(scene.end() == "plugin application 1006 '' unclean");
  CHECK_FALSE(scene.detail().empty());
  CHECK(scene.client_got() == "close 4000 'ours'");
}

TEST_CASE("a reset, or an error of TLS, is the network's") {
  Scene reset;
  reset.session->on_failure(net::FailureKind::reset, Error{"connection reset by peer"});
  CHECK(reset.end() == "network reset 1006 '' unclean");
  CHECK(reset.detail() == "connection reset by peer");

  Scene tls;
  tls.session->on_failure(net::FailureKind::tls, Error{"TLS read: bad record mac"});
  CHECK(tls.end() == "network tls_error 1006 '' unclean");
}

TEST_CASE("a reset instead of an answer keeps the reason that we closed for") {
  Scene scene;
  scene.session->close_by_rule(ws::going_away, metrics::CloseReason::idle_timeout, "timeouts.idle");
  scene.turn();
  scene.session->on_failure(net::FailureKind::reset, Error{"connection reset by peer"});
  CHECK(scene.end() == "gateway idle_timeout 1006 '' unclean");
}

TEST_CASE("the end comes once, whatever follows") {
  Scene scene;
  scene.receive(scene.client.close(1000));
  scene.session->on_peer_end();
  scene.session->on_failure(net::FailureKind::reset, Error{"reset"});
  scene.session->abort(metrics::Initiator::gateway, metrics::CloseReason::drain, "late");
  scene.send("late");
  scene.pause();
  scene.resume();
  scene.session->drain();
  scene.wait(600'000);
  CHECK(scene.told() == "end");
  CHECK(scene.end() == "client normal 1000 '' clean");
  CHECK(scene.wheel.size() == 0);
}

TEST_CASE("rate limits are closed with 1008, and the message over the limit is not delivered") {
  Scene messages([](config::Route& route) { route.limits.messages_per_second = 2; });
  messages.receive(messages.client.text("1") + messages.client.text("2"));
  messages.wait(1000);
  messages.receive(messages.client.text("3") + messages.client.text("4") +
                   messages.client.text("5"));
  CHECK(messages.told() == "text '1'; text '2'; text '3'; text '4'; end");
  CHECK(messages.end() == "gateway rate_limited 1008 'rate limit' unclean");
  CHECK(messages.detail() == "limits.messages_per_second");
  CHECK(messages.rejections(metrics::Limit::messages_per_second) == 1);

  Scene bytes([](config::Route& route) { route.limits.bytes_per_second = 10; });
  bytes.receive(bytes.client.text(letters(10)));
  bytes.wait(1000);
  bytes.receive(bytes.client.text(letters(11)));
  CHECK(bytes.told() == "text '" + letters(10) + "'; end");
  CHECK(bytes.detail() == "limits.bytes_per_second");
  CHECK(bytes.rejections(metrics::Limit::bytes_per_second) == 1);
}

TEST_CASE("a rate limit looks at fragments as they come, not only at whole messages") {
  Scene scene([](config::Route& route) { route.limits.bytes_per_second = 10; });
  scene.receive(scene.client.fragment(letters(11), true, false));
  CHECK(scene.end() == "gateway rate_limited 1008 'rate limit' unclean");
}

TEST_CASE("drain() closes with 1001 at once between messages") {
  Scene scene;
  scene.session->drain();
  scene.turn();
  CHECK(scene.client_got() == "close 1001 'shutting down'");
  scene.receive(scene.client.close(1001));
  CHECK(scene.end() == "gateway drain 1001 '' clean");
}

TEST_CASE("drain() lets the message that is being received arrive whole first") {
  Scene scene;
  scene.on_message = [&](MessageType type, std::string_view text) {
    scene.session->send(type, as_bytes(text));
  };
  const std::string first = scene.client.fragment("Hel", true, false);
  const std::string last = scene.client.fragment("lo", false, true);
  scene.receive(first);
  scene.session->drain();
  scene.turn();
  CHECK(scene.client_got().empty());
  scene.receive(scene.client.ping("inside"));
  CHECK(scene.client_got() == "pong 'inside'");
  scene.receive(last + scene.client.text("unheard"));
  CHECK(scene.told() == "text 'Hello'");
  CHECK(scene.client_got() == "text 'Hello'; close 1001 'shutting down'");
}

TEST_CASE("drain() lets the message that is being sent in frames leave whole first") {
  Scene scene([](config::Route& route) { route.target = config::HttpTarget{}; });
  scene.session->begin_frame(MessageType::text, true, false, 3);
  scene.session->send_payload(as_bytes("Hel"));
  scene.receive(scene.client.fragment("in", true, false));
  scene.session->drain();
  scene.receive(scene.client.fragment("side", false, true));
  CHECK(scene.client_got().empty());
  scene.session->begin_frame(MessageType::text, false, true, 2);
  scene.session->send_payload(as_bytes("l"));
  scene.turn();
  CHECK(scene.out().close_frames.get() == 0);
  scene.session->send_payload(as_bytes("o"));
  scene.turn();
  CHECK(scene.client_got() == "text 'Hello'; close 1001 'shutting down'");
}

TEST_CASE("drain() lets the message that is being compressed leave whole first") {
  ws::CompressionPool pool(1 << 20);
  Scene scene([](config::Route& route) { route.target = config::HttpTarget{}; }, &pool);
  scene.session->begin_frame(MessageType::binary, true, true, 1'000);
  scene.session->send_payload(as_bytes(letters(100)));
  scene.session->drain();
  scene.turn();
  CHECK(scene.out().close_frames.get() == 0);
  scene.session->send_payload(as_bytes(letters(900)));
  scene.turn();
  CHECK(scene.out().close_frames.get() == 1);
  CHECK(scene.out().message_size.sum.get() == 1'000);
}

TEST_CASE("drain() ends a relay of which both directions are always in the midst of a message") {
  Scene scene([](config::Route& route) { route.target = config::HttpTarget{}; });
  const auto begin = [&] {
    scene.session->begin_frame(MessageType::text, true, true, 2);
    scene.session->send_payload(as_bytes("a"));
  };
  const std::string message = scene.client.text("Hello");
  begin();
  scene.receive(message.substr(0, 8));
  scene.session->drain();
  for (int i = 0; i < 3; ++i) {
    scene.receive(message.substr(8) + message.substr(0, 8));
    scene.session->send_payload(as_bytes("b"));
    begin();
  }
  scene.turn();
  CHECK(scene.out().close_frames.get() == 1);
  CHECK(scene.client_got().ends_with("text 'ab'; close 1001 'shutting down'"));
}

TEST_CASE("drain() ends a client whose every read ends inside of another message") {
  Scene scene;
  const std::string message = scene.client.text(letters(100));
  scene.receive(message.substr(0, 50));
  scene.session->drain();
  scene.receive(message.substr(50) + message.substr(0, 50));
  CHECK(scene.client_got() == "close 1001 'shutting down'");
}

TEST_CASE("abort() sends nothing") {
  Scene scene;
  scene.session->abort(metrics::Initiator::gateway, metrics::CloseReason::drain,
                       "shutdown.drain_timeout");
  scene.turn();
  CHECK(scene.client_got().empty());
  CHECK(scene.end() == "gateway drain 1006 '' unclean");
}

TEST_CASE("a transport that breaks while close() flushes leaves the session CLOSED") {
  Scene scene([](config::Route& route) {
    route.slow_consumer = config::SlowConsumer::drop_oldest;
    route.buffers.high_watermark_bytes = 1'000'000;
  });
  scene.client_stops_reading();
  scene.send("begun");
  scene.turn();
  scene.send(letters(100'000));  // held
  scene.transport.room = 100;
  scene.transport.flush();  // no longer blocked, and nobody was told yet
  scene.transport.on_flush = [&] {
    scene.session->on_failure(net::FailureKind::reset, Error{"connection reset by peer"});
  };
  scene.close(1000);
  CHECK(scene.session->ready_state() == ReadyState::closed);
  scene.wait(60'000);
  CHECK(scene.told() == "end");
}

TEST_CASE("a transport that breaks under the Close frame ends the session once") {
  const struct {
    std::string what;
    std::string bytes;
  } rows[] = {{"the answer to a Close frame", WebSocketPeer().close(1000, letters(100))},
              {"the failure of a broken rule", {"\x83\x80\0\0\0\0", 6}},
              {"the end of a flood", WebSocketPeer().ping() + WebSocketPeer().ping()}};
  for (const auto& row : rows) {
    CAPTURE(row.what);
    Scene scene([](config::Route& route) { route.limits.control_frames_per_second = 1; });
    // So much is gathered that the next frame makes it be flushed.
    scene.on_message = [&](MessageType type, std::string_view) {
      scene.session->send(type, as_bytes(letters(65'530 - 4)));
    };
    scene.transport.on_flush = [&] {
      scene.session->on_failure(net::FailureKind::reset, Error{"connection reset by peer"});
    };
    scene.receive(scene.client.text("go") + row.bytes);
    CHECK(scene.told() == "text 'go'; end");
    CHECK(scene.end() == "network reset 1006 '' unclean");
  }
}

TEST_CASE("frames, messages and bytes are counted in both directions") {
  Scene scene;
  scene.on_message = [&](MessageType type, std::string_view text) {
    scene.session->send(type, as_bytes(text));
  };
  const std::string bytes = scene.client.text("Hello") + scene.client.fragment("a", true, false) +
                            scene.client.ping("p") + scene.client.fragment("b", false, true) +
                            scene.client.binary(letters(300));
  scene.receive(bytes);
  scene.receive(scene.client.close(4000, "bye"));

  CHECK(scene.in().text_messages.get() == 2);
  CHECK(scene.in().binary_messages.get() == 1);
  CHECK(scene.in().text_frames.get() == 2);
  CHECK(scene.in().continuation_frames.get() == 1);
  CHECK(scene.in().binary_frames.get() == 1);
  CHECK(scene.in().ping_frames.get() == 1);
  CHECK(scene.in().close_frames.get() == 1);
  CHECK(scene.in().payload_bytes.get() == 5 + 2 + 300);
  CHECK(scene.in().wire_bytes.get() == bytes.size() + 6 + 5);
  CHECK(scene.in().close_codes[metrics::close_code_index(4000)].get() == 1);

  CHECK(scene.out().text_messages.get() == 2);
  CHECK(scene.out().text_frames.get() == 2);
  CHECK(scene.out().binary_frames.get() == 1);
  CHECK(scene.out().pong_frames.get() == 1);
  CHECK(scene.out().close_frames.get() == 1);
  CHECK(scene.out().payload_bytes.get() == 5 + 2 + 300);
  CHECK(scene.out().wire_bytes.get() == scene.transport.taken.size());
  CHECK(scene.out().close_codes[metrics::close_code_index(4000)].get() == 1);

  const Session::Totals totals = scene.session->totals();
  CHECK(totals.messages[metrics::client_to_upstream] == 3);
  CHECK(totals.messages[metrics::upstream_to_client] == 3);
  CHECK(totals.payload_bytes[metrics::client_to_upstream] == 307);
  CHECK(totals.payload_bytes[metrics::upstream_to_client] == 307);
}

TEST_CASE("the frames of a message count the same, however the bytes were cut") {
  std::string bytes;
  {
    WebSocketPeer client;
    bytes = client.fragment(letters(200), true, false) + client.fragment(letters(200), false, true);
  }
  for (const std::size_t chunk : {1U, 7U, 100U, 1000U}) {
    CAPTURE(chunk);
    Scene scene;
    for (std::size_t at = 0; at < bytes.size(); at += chunk) scene.receive(bytes.substr(at, chunk));
    CHECK(scene.in().text_frames.get() == 1);
    CHECK(scene.in().continuation_frames.get() == 1);
    CHECK(scene.in().text_messages.get() == 1);
    CHECK(scene.in().payload_bytes.get() == 400);
  }
}

TEST_CASE("the largest bufferedAmount is remembered, and the slot shows the present one") {
  Scene scene;
  scene.client_stops_reading();
  scene.send(letters(1000));
  scene.turn();
  CHECK(scene.waiting.app_bytes == 1004);
  scene.client_reads(504);
  CHECK(scene.waiting.app_bytes == 500);
  scene.client_reads();
  CHECK(scene.waiting.app_bytes == 0);
  CHECK(scene.session->totals().buffered_bytes_max == 1004);
}
