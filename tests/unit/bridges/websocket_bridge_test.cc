#include "bridges/websocket_bridge.h"

#include <string>
#include <vector>

#include "websocket_scene.h"

namespace sluice::bridges {
namespace {

using metrics::HandshakeResult;
using metrics::Initiator;

constexpr std::size_t large_bytes = 4 * 1024 * 1024;
constexpr std::size_t huge_bytes = 32 * 1024 * 1024;  // more than the kernel's buffers

// ---- The opening handshake

TEST_CASE("an upgrade reaches the upstream with its path, query and fields, and our own key") {
  BridgeScene scene;
  auto& headers = scene.socket.http_request.headers;
  headers.push_back({"Origin", "https://example.org"});
  headers.push_back({"Cookie", "a=1; b=\"2\""});
  headers.push_back({"Sec-WebSocket-Protocol", "chat, mqtt"});
  headers.push_back({"Sec-WebSocket-Extensions", "permessage-deflate"});
  scene.open_request();
  const std::string& head = scene.server.head;
  CHECK(head.starts_with("GET /app/room?q=1&q=%20 HTTP/1.1\r\n"));
  CHECK(scene.server.field("Host") == "example.org");
  CHECK(scene.server.field("Origin") == "https://example.org");
  CHECK(scene.server.field("Cookie") == "a=1; b=\"2\"");
  CHECK(scene.server.field("Connection") == "Upgrade");
  CHECK(scene.server.field("Upgrade") == "websocket");
  CHECK(scene.server.field("Sec-WebSocket-Version") == "13");
  CHECK(scene.server.field("Sec-WebSocket-Protocol") == "chat, mqtt");
  CHECK(scene.server.field("Sec-WebSocket-Key").size() == 24);
  CHECK(scene.server.field("Sec-WebSocket-Key") != "dGhlIHNhbXBsZSBub25jZQ==");
  CHECK(head.find("Extensions") == std::string::npos);
}

TEST_CASE("the client is accepted when the upstream has, with its choice and its cookies") {
  BridgeScene scene;
  scene.socket.http_request.headers.push_back({"Sec-WebSocket-Protocol", "chat, mqtt"});
  scene.open("Sec-WebSocket-Protocol: mqtt\r\nSet-Cookie: a=1\r\nDate: now\r\n");
  CHECK(scene.socket.accepted == "mqtt");
  REQUIRE(scene.socket.accepted_headers.size() == 1);
  CHECK(scene.socket.accepted_headers[0].value == "a=1");
}

TEST_CASE("a 101 that is none is a 502, is counted, and ends the connection to the upstream") {
  BridgeScene scene;
  scene.open_request();
  SUBCASE("another key's accept") {
    scene.server.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
  }
  SUBCASE("an extension that nobody offered") {
    scene.server.write(scene.server.switching("Sec-WebSocket-Extensions: permessage-deflate\r\n"));
  }
  SUBCASE("a subprotocol that nobody offered") {
    scene.server.write(scene.server.switching("Sec-WebSocket-Protocol: chat\r\n"));
  }
  scene.run([&] { return scene.socket.state == ReadyState::closed; });
  REQUIRE(scene.socket.rejected_response.has_value());
  CHECK(scene.socket.rejected_response->status == 502);
  CHECK(scene.socket.rejected_result == HandshakeResult::upstream_invalid);
  CHECK(scene.service->counters().handshake_invalid.get() == 1);
  scene.server_gets_end();
  scene.client_ends(1006, "", Initiator::network);
}

TEST_CASE("another status is the upstream's answer to the client") {
  BridgeScene scene;
  scene.open_request();
  scene.server.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno!");
  scene.run([&] { return scene.socket.relay != nullptr; });
  scene.client_ends(1006, "", Initiator::network);
}

TEST_CASE("a redirect is followed by nobody") {
  BridgeScene scene;
  scene.open_request();
  scene.server.write("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n");
  scene.run([&] { return scene.socket.state == ReadyState::closed; });
  CHECK(scene.socket.relay == nullptr);
  CHECK(scene.socket.rejected_response->status == 502);
  CHECK(scene.socket.rejected_result == HandshakeResult::upstream_refused);
  scene.server_gets_end();
  scene.client_ends(1006, "", Initiator::network);
}

TEST_CASE("an upstream that is not there is a 502") {
  BridgeScene scene;
  scene.server.stop_listening();
  scene.bridge->on_open(scene.request);
  scene.wait(1'000);
  REQUIRE(scene.socket.state == ReadyState::closed);
  CHECK(scene.socket.rejected_response->status == 502);
  CHECK(scene.socket.rejected_result == HandshakeResult::upstream_failed);
  scene.client_ends(1006, "", Initiator::network);
}

TEST_CASE("an upstream that does not answer is a 504") {
  BridgeScene scene([](config::Route& route, config::Upstream&) {
    std::get<config::HttpTarget>(route.target).response_timeout_ms = 3'000;
  });
  scene.open_request();
  scene.wait(2'000);
  CHECK(scene.socket.state == ReadyState::connecting);
  scene.wait(1'500);
  REQUIRE(scene.socket.rejected_response.has_value());
  CHECK(scene.socket.rejected_response->status == 504);
  CHECK(scene.socket.rejected_result == HandshakeResult::upstream_timeout);
  scene.client_ends(1006, "", Initiator::network);
}

TEST_CASE("an upstream that does not answer in the client's own time is a 504 that names it") {
  BridgeScene scene([](config::Route& route, config::Upstream&) {
    std::get<config::HttpTarget>(route.target).response_timeout_ms = 600'000;
  });
  scene.open_request();
  scene.wait(9'000);
  CHECK(scene.socket.state == ReadyState::connecting);
  scene.wait(900);  // and before the 10 s of requests.handshake_timeout are over
  REQUIRE(scene.socket.rejected_response.has_value());
  CHECK(scene.socket.rejected_response->status == 504);
  CHECK(scene.socket.rejected_result == HandshakeResult::upstream_timeout);
  const std::string& endpoint = scene.service->endpoints().front()->name();
  CHECK(scene.socket.named == "app " + endpoint);
  CHECK(scene.socket.rejected->reason == endpoint + ": no response in time");
  scene.client_ends(1006, "", Initiator::network);
}

TEST_CASE("a client that goes away first takes the attempt with it") {
  BridgeScene scene;
  scene.open_request();
  scene.client_ends(1006, "", Initiator::client);
  CHECK(scene.bridge == nullptr);
  scene.server_gets_end();
}

// ---- Frames

TEST_CASE("frames reach the upstream as the client had cut them") {
  for (const std::size_t piece_bytes : {std::size_t{1}, std::size_t{3}, std::size_t{1000}}) {
    CAPTURE(piece_bytes);
    BridgeScene scene;
    scene.open();
    scene.client_sends("Hello", true, true, piece_bytes);
    scene.client_sends("He", true, false, piece_bytes);
    scene.client_sends("", false, false, piece_bytes);
    scene.client_sends("llo", false, true, piece_bytes);
    scene.client_sends("", true, true, piece_bytes);
    scene.client_sends(std::string(2, '\0'), true, false, piece_bytes, MessageType::binary);
    scene.client_sends("", false, true, piece_bytes, MessageType::binary);
    const std::string wanted =
        "text 'Hello'; text- 'He'; - ''; + 'llo'; text ''; binary- '\\x00\\x00'; + ''";
    CHECK(scene.server_gets(wanted.size()) == wanted);
  }
}

TEST_CASE("frames reach the client as the upstream had cut them") {
  ServerPeer peer;
  const std::string bytes = peer.text("Hello") + peer.fragment("He", true, false) +
                            peer.ping("between") + peer.fragment("", false, false) +
                            peer.fragment("llo", false, true) + peer.text("") +
                            peer.fragment("\x01\x02", true, true, MessageType::binary);
  const std::string wanted =
      "text 'Hello'; text- 'He'; - ''; + 'llo'; text ''; binary '\\x01\\x02'";
  SUBCASE("behind the 101 in one segment") {
    BridgeScene scene;
    scene.open_request();
    scene.server.switched = true;
    scene.server.write(scene.server.switching() + bytes);
    scene.run([&] { return scene.socket.frames.size() == 6; });
    CHECK(scene.client_got() == wanted);
    CHECK(scene.server_gets(1) == "pong 'between'");
  }
  SUBCASE("byte by byte") {
    BridgeScene scene;
    scene.open();
    for (const char byte : bytes) {
      scene.server.write({&byte, 1});
      scene.settle();
    }
    scene.run([&] { return scene.socket.frames.size() == 6; });
    CHECK(scene.client_got() == wanted);
  }
}

TEST_CASE("text is checked, unless the route says that it is not") {
  SUBCASE("checked") {
    BridgeScene scene;
    scene.open();
    scene.server.write(scene.server.peer.text("\xff"));
    CHECK(scene.server_gets_end() == "close 1007 'text is not valid UTF-8' | end");
    CHECK(scene.client_ending() == "1014 'upstream broke the protocol' upstream upstream_failed");
  }
  SUBCASE("not checked") {
    BridgeScene scene([](config::Route& route, config::Upstream&) {
      std::get<config::HttpTarget>(route.target).validate_utf8 = false;
    });
    scene.open();
    scene.server.write(scene.server.peer.text("\xff"));
    scene.run([&] { return !scene.socket.frames.empty(); });
    CHECK(scene.client_got() == "text '\\xff'");
  }
}

// ---- Back-pressure

TEST_CASE("while the upstream does not read, neither is the client, and nothing is lost") {
  BridgeScene scene;
  scene.open();
  const std::string sent = test::numbered(huge_bytes);
  const std::string piece(64 * 1024, '\0');
  std::size_t offset = 0;
  const auto send_until_paused = [&] {
    while (offset < sent.size() && !scene.socket.paused) {
      const std::size_t size = std::min(sent.size() - offset, std::size_t{64 * 1024});
      scene.bridge->on_piece({.type = MessageType::binary,
                              .message_start = offset == 0,
                              .frame_start = offset == 0,
                              .frame_end = offset + size == sent.size(),
                              .fin = true,
                              .compressed = false,
                              .frame_payload_bytes = sent.size(),
                              .payload = as_bytes(std::string_view(sent).substr(offset, size))});
      offset += size;
      scene.settle();
    }
  };
  send_until_paused();
  REQUIRE(scene.socket.paused);
  CHECK(offset < sent.size());
  CHECK(scene.socket.upstream_buffered > scene.route.buffers.high_watermark_bytes);
  CHECK(scene.socket.upstream_buffered <=
        scene.route.buffers.high_watermark_bytes + 2 * piece.size());

  std::string got;
  scene.server.peer.on_payload = [&](Bytes bytes) { got += as_text(bytes); };
  while (got.size() < sent.size() && scene.server.ending.empty()) {
    while (scene.server.read()) continue;
    scene.settle();
    send_until_paused();
  }
  CHECK(got == sent);
  scene.run([&] { return !scene.socket.paused; });
  CHECK(scene.socket.upstream_buffered == 0);
}

TEST_CASE("what waits for the upstream is shown until it has left, be it under the watermarks") {
  BridgeScene scene([](config::Route& route, config::Upstream&) {
    route.buffers.high_watermark_bytes = huge_bytes;
  });
  scene.open();
  scene.client_sends(std::string(huge_bytes / 2, 'x'));
  scene.settle();
  CHECK_FALSE(scene.socket.paused);
  CHECK(scene.socket.upstream_buffered > 0);
  CHECK(scene.server_gets(1) == "text (16777216 bytes)");
  scene.run([&] { return scene.socket.upstream_buffered == 0; });
}

TEST_CASE("while the client does not read, neither is the upstream, and nothing is lost") {
  BridgeScene scene;
  scene.open();
  scene.socket.buffered = scene.route.buffers.high_watermark_bytes + 1;
  const std::string frame =
      scene.server.peer.fragment(test::numbered(huge_bytes), true, true, MessageType::binary);
  std::string_view left = frame;
  for (int i = 0; i < 200; ++i) {
    left = scene.server.write_some(left);
    scene.settle();
  }
  CHECK_FALSE(left.empty());
  CHECK(scene.socket.frames.empty());
  CHECK(scene.socket.frame.payload.size() <= 2 * net::IoBuffers::receive_bytes);

  scene.socket.buffered = 0;
  scene.bridge->on_drain();
  scene.run([&] {
    left = scene.server.write_some(left);
    return !scene.socket.frames.empty();
  });
  CHECK(scene.socket.frames[0].payload == test::numbered(huge_bytes));
}

// ---- How the upstream ends

TEST_CASE("the upstream's Close goes on to the client as it is") {
  struct Row {
    std::uint16_t code;
    const char* reason;
    const char* client;
  };
  for (const Row& row : std::vector<Row>{
           {1000, "bye", "1000 'bye' upstream normal"},
           {1001, "", "1001 '' upstream going_away"},
           {3000, "library", "3000 'library' upstream application"},
           {4999, "grüße", "4999 'grüße' upstream application"},
           {1011, "oops", "1011 'oops' upstream application"},
           {1005, "", "1005 '' upstream normal"},
       }) {
    CAPTURE(row.code);
    BridgeScene scene;
    scene.open();
    scene.server.write(scene.server.peer.text("last"));
    scene.server.write(scene.server.peer.close(row.code, row.reason));
    scene.run([&] { return scene.socket.ending.has_value(); });
    CHECK(scene.client_got() == "text 'last'");
    CHECK(scene.client_ending() == row.client);
    // It is answered in kind, and may end the stream.
    const std::string answer =
        "close " + std::to_string(row.code) + " " + test::shown(as_bytes(std::string(row.reason)));
    CHECK(scene.server_gets(answer.size()) == answer);
    CHECK(scene.server.ending.empty());
    scene.client_ends(row.code, row.reason, Initiator::upstream);
    REQUIRE(scene.bridge != nullptr);
    scene.server.end();
    scene.run([&] { return scene.done; });
  }
}

TEST_CASE("an upstream that refuses a frame and is gone has said why") {
  BridgeScene scene;
  scene.open();
  scene.client_begins("the first of it", 1'000'000);
  scene.server.write(scene.server.peer.close(1009, "too big"));
  scene.settle();
  scene.server.end();
  scene.wait(5'500);
  CHECK(scene.client_ending() == "1009 'too big' upstream message_too_big");
}

TEST_CASE("an upstream whose stream has ended has its place back, whatever its client does") {
  BridgeScene scene;
  scene.open();
  const metrics::EndpointCounters& endpoint = scene.service->endpoints()[0]->counters();
  CHECK(endpoint.active.get() == 1);
  scene.server.write(scene.server.peer.close(1000));
  scene.run([&] { return scene.socket.ending.has_value(); });
  CHECK(endpoint.active.get() == 1);
  scene.server.end();
  scene.run([&] { return endpoint.active.get() == 0; });
  scene.server_gets_end();
  scene.client_ends(1006, "", Initiator::upstream);
  CHECK(scene.bridge == nullptr);
}

TEST_CASE("an upstream that is lost is a bad gateway") {
  BridgeScene scene;
  scene.open();
  SUBCASE("end of stream") {
    scene.server.end();
  }
  SUBCASE("reset") {
    scene.server.reset();
  }
  SUBCASE("in the midst of a message, between two frames") {
    scene.server.write(scene.server.peer.fragment("half", true, false));
    scene.run([&] { return !scene.socket.frames.empty(); });
    scene.server.end();
  }
  scene.run([&] { return scene.socket.ending.has_value(); });
  CHECK(scene.client_ending() == "1014 'upstream lost' upstream upstream_failed");
  CHECK(scene.socket.ending->detail.starts_with("127.0.0.1:"));
  scene.client_ends(1014, "upstream lost", Initiator::upstream);
  scene.run([&] { return scene.bridge == nullptr; });
}

TEST_CASE("an upstream that is lost within a frame leaves the client without a Close frame") {
  BridgeScene scene;
  scene.open();
  const std::string frame = scene.server.peer.text(std::string(1000, 'x'));
  scene.server.write(frame.substr(0, 500));
  scene.run([&] { return !scene.socket.frame.payload.empty(); });
  scene.server.end();
  scene.run([&] { return scene.socket.ending.has_value(); });
  CHECK(scene.client_ending() == "aborted 1014 'upstream lost' upstream upstream_failed");
}

TEST_CASE("an upstream that breaks the protocol is told so, and the client gets a bad gateway") {
  BridgeScene scene;
  scene.open();
  std::string code;
  SUBCASE("a masked frame") {
    scene.server.write(std::string_view("\x81\x85\x01\x02\x03\x04Hello", 11));
    code = "close 1002";
  }
  SUBCASE("a reserved bit") {
    scene.server.write("\xc1\x05Hello");
    code = "close 1002";
  }
  SUBCASE("a reserved opcode") {
    scene.server.write("\x83\x05Hello");
    code = "close 1002";
  }
  SUBCASE("a continuation of nothing") {
    scene.server.write("\x80\x05Hello");
    code = "close 1002";
  }
  SUBCASE("a Close code that is none") {
    scene.server.write(std::string_view("\x88\x02\x03\xed", 4));
    code = "close 1002";
  }
  CHECK(scene.server_gets_end().starts_with(code));
  CHECK(scene.server.ending == "end");
  CHECK(scene.client_ending() == "1014 'upstream broke the protocol' upstream upstream_failed");
}

TEST_CASE("an upstream that does not answer pings is lost") {
  BridgeScene scene([](config::Route& route, config::Upstream&) {
    route.keepalive.ping_interval_ms = 1'000;
    route.keepalive.pong_timeout_ms = 1'000;
  });
  scene.open();
  scene.wait(1'500);
  CHECK(scene.server_gets(4) == "ping");
  CHECK_FALSE(scene.socket.ending.has_value());
  scene.wait(1'500);
  CHECK(scene.client_ending() == "1014 'upstream lost' upstream upstream_failed");
  CHECK(scene.socket.ending->detail.ends_with("keepalive.pong_timeout"));
}

TEST_CASE("a client that is not read since the upstream does not read is read again at the end") {
  BridgeScene scene;
  scene.open();
  scene.client_begins("x", 64 * large_bytes);
  while (!scene.socket.paused) {
    scene.bridge->on_piece({.type = MessageType::text,
                            .message_start = false,
                            .frame_start = false,
                            .frame_end = false,
                            .fin = true,
                            .compressed = false,
                            .frame_payload_bytes = 0,
                            .payload = as_bytes(std::string(64 * 1024, 'x'))});
    scene.settle();
  }
  scene.server.reset();
  scene.run([&] { return scene.socket.ending.has_value(); });
  CHECK_FALSE(scene.socket.paused);
  CHECK(scene.socket.upstream_buffered == 0);
}

TEST_CASE("a client is not held up by an upstream that has closed without reading") {
  BridgeScene scene;
  scene.open();
  while (!scene.socket.paused) {
    scene.client_sends(std::string(64 * 1024, 'x'));
    scene.settle();
  }
  scene.server.write(scene.server.peer.close(1000));
  scene.run([&] { return scene.socket.ending.has_value(); });
  CHECK_FALSE(scene.socket.paused);
  scene.client_sends(std::string(64 * 1024, 'x'));  // on its way before it heard of the Close
  scene.settle();
  CHECK_FALSE(scene.socket.paused);
  scene.server.reset();
  scene.settle();
  CHECK_FALSE(scene.socket.paused);
}

TEST_CASE("on_endpoint_down: close, while neither the client nor the upstream reads") {
  BridgeScene scene([](config::Route&, config::Upstream& upstream) {
    upstream.on_endpoint_down = config::OnEndpointDown::close;
    upstream.health_check.emplace().unhealthy_threshold = 1;
  });
  scene.open();
  scene.socket.buffered = scene.route.buffers.high_watermark_bytes + 1;
  scene.server.write(scene.server.peer.text("one"));
  while (!scene.socket.paused) {
    scene.client_sends(std::string(64 * 1024, 'x'));
    scene.settle();
  }
  scene.service->report_check(*scene.service->endpoints()[0], false);
  scene.run([&] { return scene.socket.ending.has_value(); });
  scene.server.write(scene.server.peer.text("two"));
  scene.client_sends("more");
  scene.settle();
  CHECK_FALSE(scene.socket.paused);
  scene.client_ends(1006, "", Initiator::client);
  scene.wait(scene.route.timeouts.close_ms + 2 * TimerWheel::tick_ms);
  CHECK(scene.done);
}

TEST_CASE("on_endpoint_down: close") {
  BridgeScene scene([](config::Route&, config::Upstream& upstream) {
    upstream.on_endpoint_down = config::OnEndpointDown::close;
    upstream.health_check.emplace().unhealthy_threshold = 1;
  });
  scene.open();
  scene.service->report_check(*scene.service->endpoints()[0], false);
  scene.run([&] { return scene.socket.ending.has_value(); });
  CHECK(scene.client_ending() == "1014 'upstream down' upstream upstream_failed");
  CHECK(scene.server_gets(1) == "close 1001 'endpoint down'");
}

// ---- How the client ends

TEST_CASE("the client's Close goes on to the upstream, behind everything that it had sent") {
  struct Row {
    std::uint16_t code;
    const char* reason;
    const char* server;
  };
  for (const Row& row : std::vector<Row>{
           {1000, "bye", "text 'last'; close 1000 'bye'"},
           {1001, "", "text 'last'; close 1001 ''"},
           {3000, "library", "text 'last'; close 3000 'library'"},
           {4999, "x", "text 'last'; close 4999 'x'"},
           {1005, "", "text 'last'; close 1005 ''"},
       }) {
    CAPTURE(row.code);
    BridgeScene scene;
    scene.open();
    scene.client_sends("last");
    scene.client_ends(row.code, row.reason, Initiator::client);
    REQUIRE(scene.bridge != nullptr);
    const std::string wanted = row.server;
    CHECK(scene.server_gets(wanted.size()) == wanted);
    // What the upstream says before it answers has nobody to hear it.
    scene.server.write(scene.server.peer.text("late"));
    scene.settle();
    CHECK_FALSE(scene.done);
    scene.server.write(scene.server.peer.close(row.code, row.reason));
    scene.settle();
    CHECK_FALSE(scene.done);
    scene.server.end();
    scene.run([&] { return scene.done; });
    CHECK(scene.socket.frames.empty());
  }
}

TEST_CASE("a client that has vanished has vanished for the upstream too, after all that it sent") {
  BridgeScene scene;
  scene.open();
  scene.client_sends(std::string(large_bytes, 'x'));
  SUBCASE("between two frames") {}
  SUBCASE("within a frame") {
    scene.client_begins("half", 100);
  }
  scene.client_ends(1006, "", Initiator::network);
  REQUIRE(scene.bridge != nullptr);
  CHECK(scene.server_gets_end() == "text (4194304 bytes) | end");
  scene.server.end();
  scene.run([&] { return scene.done; });
}

TEST_CASE("a rule of the gateway is told to the upstream by its name") {
  BridgeScene scene;
  scene.open();
  SUBCASE("between two frames") {
    scene.client_ends(1008, "timeouts.message", Initiator::gateway);
    CHECK(scene.server_gets(1) == "close 1001 'timeouts.message'");
  }
  SUBCASE("within a frame there is no place for it") {
    scene.client_begins("half", 100);
    scene.client_ends(1007, "text is not valid UTF-8", Initiator::gateway);
    CHECK(scene.server_gets_end() == " | end");
  }
}

TEST_CASE("an upstream that was not read since the client did not read still hears of the end") {
  BridgeScene scene;
  scene.open();
  scene.socket.buffered = scene.route.buffers.high_watermark_bytes + 1;
  scene.server.write(scene.server.peer.text("one") + scene.server.peer.text("two"));
  scene.run([&] { return !scene.socket.frames.empty(); });
  scene.settle();
  CHECK(scene.socket.frames.size() == 1);
  SUBCASE("with a Close") {
    scene.client_ends(1000, "", Initiator::client);
    CHECK(scene.server_gets(1) == "close 1000 ''");
    scene.server.write(scene.server.peer.close(1000));
  }
  SUBCASE("without one") {
    scene.client_ends(1006, "", Initiator::client);
    CHECK(scene.server_gets_end() == " | end");
  }
  scene.server.end();
  scene.run([&] { return scene.done; });
}

TEST_CASE(
    "what a vanished client had sent waits for the upstream as long as that takes some of it") {
  BridgeScene scene;
  scene.open();
  scene.client_sends(std::string(huge_bytes, 'x'));
  scene.client_ends(1006, "", Initiator::client);
  for (int i = 0; i < 3; ++i) {
    scene.wait(4'000);
    CHECK_FALSE(scene.done);
    // Enough for the kernel to say so.
    for (int reads = 0; reads < 100; ++reads) {
      scene.server.read();
      scene.settle();
    }
  }
  SUBCASE("to the end") {
    CHECK(scene.server_gets_end() == "text (33554432 bytes) | end");
    scene.server.end();
    scene.run([&] { return scene.done; });
  }
  SUBCASE("or until it takes nothing any more") {
    scene.wait(6'000);
    CHECK(scene.done);
    CHECK(scene.server_gets_end() == " | reset");
  }
}

TEST_CASE("an upstream that does not answer the Close has timeouts.close") {
  BridgeScene scene;
  scene.open();
  scene.client_ends(1000, "", Initiator::client);
  CHECK(scene.server_gets(1) == "close 1000 ''");
  scene.wait(4'500);
  CHECK_FALSE(scene.done);
  SUBCASE("not at all") {
    scene.wait(1'000);
    CHECK(scene.done);
  }
  SUBCASE("it goes on sending, what nobody takes any more") {
    scene.server.write(scene.server.peer.text("to whom?"));
    scene.settle();
    scene.wait(1'000);
    CHECK(scene.done);
  }
  SUBCASE("it does, but does not end the stream") {
    scene.server.write(scene.server.peer.close(1000));
    scene.settle();
    scene.wait(4'500);
    CHECK_FALSE(scene.done);
    scene.wait(1'000);
    CHECK(scene.done);
  }
  scene.server_gets_end();
}

TEST_CASE("when the process ends, what is left is dropped") {
  BridgeScene scene;
  scene.open();
  scene.client_ends(1001, "shutting down", Initiator::gateway);
  CHECK(scene.server_gets(1) == "close 1001 'shutting down'");
  scene.bridge->cut();
  CHECK_FALSE(scene.done);  // not from inside of the call
  scene.run([&] { return scene.done; });
  CHECK(scene.server_gets_end().ends_with("| reset"));
}

}  // namespace
}  // namespace sluice::bridges
