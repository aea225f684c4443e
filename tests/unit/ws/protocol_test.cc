#include "ws/protocol.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "unit/ws/frame_cases.h"
#include "unit/ws/transcript.h"
#include "ws/close_code.h"

using namespace sluice;
using namespace sluice::ws;
using namespace sluice::ws::test;

namespace {

constexpr Role roles[] = {Role::server, Role::client};

const char* name(Role role) {
  return role == Role::server ? "server" : "client";
}

Role other(Role role) {
  return role == Role::server ? Role::client : Role::server;
}

// The queue that a Protocol sends into, and what arrives of it at the other end.
struct Wire {
  ChunkPool pool;
  ByteQueue queue{pool};

  std::string take() {
    std::string bytes = queue.to_string();
    queue.clear();
    return bytes;
  }
};

std::vector<std::string> received_by(Role role, const std::string& bytes) {
  return run_whole(role, {}, as_bytes(bytes));
}

// After how many bytes, given one at a time, the failure is told; 0: never.
std::size_t failure_position(Role role, const ProtocolLimits& limits, Bytes input) {
  Protocol protocol(role, limits);
  Transcript transcript;
  for (std::size_t i = 0; i < input.size(); ++i) {
    receive_chunk(protocol, input.subspan(i, 1), transcript);
    if (transcript.failed()) return i + 1;
  }
  return 0;
}

// Calls visit(role, case) for the whole frame table.
template <typename Visit>
void for_each_case(Visit visit) {
  for (const Role role : roles) {
    const FrameCases cases(role);
    for (const FrameCase& frame_case : cases.all()) {
      INFO("as " << name(role) << ": " << frame_case.name);
      visit(role, frame_case);
    }
  }
}

}  // namespace

TEST_CASE("the frame table, received whole (RFC 6455 5)") {
  for_each_case([](Role role, const FrameCase& frame_case) {
    const std::string input = frame_case.before + frame_case.frame;
    CHECK(joined(run_whole(role, frame_case.limits, as_bytes(input))) ==
          joined(frame_case.expected));
  });
}

TEST_CASE("the frame table, received byte by byte (RFC 6455 5)") {
  for_each_case([](Role role, const FrameCase& frame_case) {
    const std::string input = frame_case.before + frame_case.frame;
    CHECK(joined(run(role, frame_case.limits, as_bytes(input), [] { return 1; })) ==
          joined(frame_case.expected));
  });
}

TEST_CASE("the frame table, received in random chunks (RFC 6455 5)") {
  std::mt19937 random(6455);
  for_each_case([&](Role role, const FrameCase& frame_case) {
    const std::string input = frame_case.before + frame_case.frame;
    const int rounds = input.size() > 1000 ? 3 : 30;
    for (int round = 0; round < rounds; ++round) {
      const std::size_t size_max = random() % 2 == 0 ? 8 : input.size() + 1;
      const auto chunk = [&] { return random() % size_max; };
      CHECK(joined(run(role, frame_case.limits, as_bytes(input), chunk)) ==
            joined(frame_case.expected));
    }
  });
}

TEST_CASE("a mistake is told at the byte that makes it, not later (RFC 6455 7.1.7, 8.1)") {
  for_each_case([](Role role, const FrameCase& frame_case) {
    const std::string input = frame_case.before + frame_case.frame;
    const std::size_t expected =
        frame_case.fails_at == 0 ? 0 : frame_case.before.size() + frame_case.fails_at;
    CHECK(failure_position(role, frame_case.limits, as_bytes(input)) == expected);
  });
}

TEST_CASE("cut at any one place, every case of the frame table is the same (RFC 6455 5)") {
  for_each_case([](Role role, const FrameCase& frame_case) {
    const std::string input = frame_case.before + frame_case.frame;
    if (input.size() > 400) return;
    for (std::size_t cut = 1; cut < input.size(); ++cut) {
      const auto lines = run(role, frame_case.limits, as_bytes(input), [&] { return cut; });
      CHECK(joined(lines) == joined(frame_case.expected));
    }
  });
}

TEST_CASE("the examples of RFC 6455 5.7 are understood") {
  const auto whole = [](Role role, std::string_view bytes) {
    return joined(run_whole(role, {}, as_bytes(bytes)));
  };
  using namespace std::string_view_literals;
  CHECK(whole(Role::client, "\x81\x05\x48\x65\x6c\x6c\x6f"sv) == "text(5) start end \"Hello\"\n");
  CHECK(whole(Role::server, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"sv) ==
        "text(5) start end \"Hello\"\n");
  CHECK(whole(Role::client, "\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f"sv) ==
        "text(3) start \"Hel\"\ntext(2) end \"lo\"\n");
  CHECK(whole(Role::client, "\x89\x05\x48\x65\x6c\x6c\x6f"sv) == "ping \"Hello\"\n");
  CHECK(whole(Role::server, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"sv) ==
        "pong \"Hello\"\n");
}

TEST_CASE("a frame that is whole is one event, unmasked where it was received (RFC 6455 5.3)") {
  std::string input = raw_frame(Role::server, {.payload = "Hello"});
  auto* bytes = reinterpret_cast<std::uint8_t*>(input.data());
  const ProtocolLimits limits;
  Protocol protocol(Role::server, limits);
  protocol.receive({bytes, input.size()});
  const auto event = protocol.next_event();
  REQUIRE(event);
  CHECK(event->payload.data() == bytes + 6);
  CHECK(as_text(event->payload) == "Hello");
  CHECK(event->message_start);
  CHECK(event->message_end);
  CHECK(event->frame_end);
  CHECK_FALSE(protocol.next_event());
}

TEST_CASE("only the piece of an event is unmasked; rest() is as it was received (RFC 6455 5.3)") {
  const std::string first = raw_frame(Role::server, {.payload = "first"});
  const std::string second = raw_frame(Role::server, {.payload = "second"});
  std::string input = first + second;
  const ProtocolLimits limits;
  Protocol protocol(Role::server, limits);
  protocol.receive({reinterpret_cast<std::uint8_t*>(input.data()), input.size()});
  REQUIRE(protocol.next_event());
  CHECK(as_text(protocol.rest()) == second);

  // A paused session puts the rest aside and goes on with it later, elsewhere.
  std::string aside(as_text(protocol.rest()));
  input.assign(input.size(), '\xff');
  protocol.receive({reinterpret_cast<std::uint8_t*>(aside.data()), aside.size()});
  const auto event = protocol.next_event();
  REQUIRE(event);
  CHECK(as_text(event->payload) == "second");
}

TEST_CASE("a gathered ping stays valid while the next one begins (RFC 6455 5.5.2)") {
  const std::string ping = raw_frame(Role::server, {.opcode = 9, .payload = "first ping"});
  const std::string next = raw_frame(Role::server, {.opcode = 9, .payload = "next"});
  std::string begin = ping.substr(0, 9);
  std::string rest = ping.substr(9) + next.substr(0, 7);
  const ProtocolLimits limits;
  Protocol protocol(Role::server, limits);
  protocol.receive({reinterpret_cast<std::uint8_t*>(begin.data()), begin.size()});
  REQUIRE_FALSE(protocol.next_event());
  protocol.receive({reinterpret_cast<std::uint8_t*>(rest.data()), rest.size()});
  const auto event = protocol.next_event();
  REQUIRE(event);
  REQUIRE_FALSE(protocol.next_event());
  CHECK(as_text(event->payload) == "first ping");
}

TEST_CASE("every close code from the peer is accepted or refused as RFC 6455 7.4 says") {
  for (const Role role : roles) {
    for (unsigned code = 0; code <= 5000; ++code) {
      const std::string body = {static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
      const bool valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                         (code >= 3000 && code <= 4999);
      const std::string expected = valid ? "close " + std::to_string(code) + " \"\"\n"
                                         : "failure 1002 \"invalid close code\"\n";
      CHECK(joined(received_by(role, raw_frame(role, {.opcode = 8, .payload = body}))) == expected);
    }
  }
}

TEST_CASE("no close code goes on the wire that RFC 6455 7.4 forbids there") {
  Wire wire;
  const ProtocolLimits limits;
  for (const Role role : roles) {
    for (unsigned code = 0; code <= 5000; ++code) {
      Protocol protocol(role, limits);
      protocol.send_close(static_cast<std::uint16_t>(code), "why", wire.queue);
      const bool valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                         (code >= 3000 && code <= 4999);
      const std::string expected =
          valid ? "close " + std::to_string(code) + " \"why\"\n" : "close 1005 \"\"\n";
      CHECK(joined(received_by(other(role), wire.take())) == expected);
    }
  }
}

TEST_CASE("a close reason is cut at 123 bytes between two characters (RFC 6455 5.5.1)") {
  Wire wire;
  const ProtocolLimits limits;
  const std::string two = "\xc3\xa9", three = "\xe4\xbd\xa0", four = "\xf0\x9f\x98\x80";
  for (const std::string& character : {std::string("x"), two, three, four}) {
    for (std::size_t lead = 0; lead < 4; ++lead) {
      for (std::size_t count = 20; count <= 130; ++count) {
        std::string reason(lead, 'l');
        for (std::size_t i = 0; i < count; ++i) reason += character;
        Protocol protocol(Role::server, limits);
        protocol.send_close(1000, reason, wire.queue);
        const std::size_t fits = std::min(count, (123 - lead) / character.size());
        const std::string kept = reason.substr(0, lead + fits * character.size());
        CHECK(joined(received_by(Role::client, wire.take())) ==
              "close 1000 " + quoted_text(kept) + "\n");
      }
    }
  }
}

TEST_CASE("a close reason that is not UTF-8 is left out (RFC 6455 5.5.1)") {
  Wire wire;
  const ProtocolLimits limits;
  Protocol protocol(Role::server, limits);
  protocol.send_close(1000, "\xff", wire.queue);
  CHECK(wire.take() == "\x88\x02\x03\xe8");
}

TEST_CASE("Close is sent once, and no data after it (RFC 6455 5.5.1)") {
  Wire wire;
  const ProtocolLimits limits;
  Protocol protocol(Role::server, limits);
  CHECK_FALSE(protocol.close_sent());
  protocol.send_close(1001, "", wire.queue);
  CHECK(protocol.close_sent());
  CHECK(wire.take() == "\x88\x02\x03\xe9");
  protocol.send_close(1000, "", wire.queue);
  protocol.send_message(MessageType::text, as_bytes("x"), wire.queue);
  protocol.send_fragment(MessageType::text, as_bytes("x"), true, false, wire.queue);
  CHECK(wire.take().empty());
}

TEST_CASE("messages are still received after our Close, until the peer's (RFC 6455 5.5.1)") {
  Wire wire;
  const ProtocolLimits limits;
  Protocol protocol(Role::server, limits);
  protocol.send_close(1000, "", wire.queue);
  std::string input = raw_frame(Role::server, {.payload = "late"}) +
                      raw_frame(Role::server, {.opcode = 8, .payload = "\x03\xe8"});
  Transcript transcript;
  receive_chunk(protocol, as_bytes(input), transcript);
  CHECK(joined(transcript.lines()) == "text(4) start end \"late\"\nclose 1000 \"\"\n");
}

TEST_CASE("a server writes the very bytes of RFC 6455 5.7") {
  Wire wire;
  const ProtocolLimits limits;
  Protocol server(Role::server, limits);
  server.send_message(MessageType::text, as_bytes("Hello"), wire.queue);
  CHECK(wire.take() == "\x81\x05Hello");
  server.send_fragment(MessageType::text, as_bytes("Hel"), true, false, wire.queue);
  server.send_fragment(MessageType::text, as_bytes("lo"), false, true, wire.queue);
  CHECK(wire.take() == "\x01\x03Hel\x80\x02lo");
  server.send_ping(as_bytes("Hello"), wire.queue);
  CHECK(wire.take() == "\x89\x05Hello");
  server.send_pong(as_bytes("Hello"), wire.queue);
  CHECK(wire.take() == "\x8a\x05Hello");
}

TEST_CASE("the payload of a control frame is at most 125 bytes (RFC 6455 5.5)") {
  Wire wire;
  const ProtocolLimits limits;
  const std::string long_text(300, 'x');
  for (const Role role : roles) {
    Protocol protocol(role, limits);
    protocol.send_ping(as_bytes(long_text), wire.queue);
    protocol.send_pong(as_bytes(long_text), wire.queue);
    const std::string cut = quoted_text(std::string(125, 'x'));
    const std::vector<std::string> expected = {"ping " + cut, "pong " + cut};
    CHECK(received_by(other(role), wire.take()) == expected);
  }
}

TEST_CASE("a client masks each frame with a key of its own (RFC 6455 5.3, 10.3)") {
  Wire wire;
  const ProtocolLimits limits;
  Protocol client(Role::client, limits);
  std::vector<std::string> keys;
  for (int i = 0; i < 1000; ++i) {
    client.send_message(MessageType::binary, as_bytes("x"), wire.queue);
    const std::string frame = wire.take();
    REQUIRE(frame.size() == 7);
    keys.push_back(frame.substr(2, 4));
  }
  std::sort(keys.begin(), keys.end());
  CHECK(std::unique(keys.begin(), keys.end()) - keys.begin() > 990);
}

TEST_CASE("what one end sends the other receives, at every length of header (RFC 6455 5.2)") {
  Wire wire;
  const ProtocolLimits limits;
  for (const Role role : roles) {
    Protocol sender(role, limits);
    for (const std::size_t size :
         {0U, 1U, 125U, 126U, 127U, 255U, 256U, 257U, 16000U, 65535U, 65536U, 65537U, 200000U}) {
      std::string payload;
      for (std::size_t i = 0; i < size; ++i) payload += static_cast<char>(i * 7);
      sender.send_message(MessageType::binary, as_bytes(payload), wire.queue);
      const std::string bytes = wire.take();
      CHECK(bytes.size() == sender.frame_size(size));
      CHECK(joined(received_by(other(role), bytes)) ==
            "binary(" + std::to_string(size) + ") start end " + quoted_text(payload) + "\n");
    }
  }
}

TEST_CASE("random conversations arrive as they were sent, however they are cut (RFC 6455 5)") {
  std::mt19937 random(1);
  const std::vector<std::string> texts = {"",
                                          "a",
                                          "Hello",
                                          "\xe4\xbd\xa0\xe5\xa5\xbd",
                                          std::string(125, 'b'),
                                          std::string(126, 'c'),
                                          std::string(70000, 'd')};
  for (int round = 0; round < 200; ++round) {
    INFO("round " << round);
    const Role role = roles[random() % 2];
    Wire wire;
    const ProtocolLimits limits;
    Protocol sender(role, limits);
    std::vector<std::string> expected;
    const auto pick = [&] { return texts[random() % (random() % 8 == 0 ? 7 : 6)]; };
    for (std::size_t messages = random() % 20; messages > 0; --messages) {
      const MessageType type = random() % 2 == 0 ? MessageType::text : MessageType::binary;
      const std::string type_name = type == MessageType::text ? "text(" : "binary(";
      const std::size_t fragments = random() % 3 == 0 ? 1 + random() % 4 : 1;
      for (std::size_t i = 0; i < fragments; ++i) {
        const std::string payload = pick();
        const bool first = i == 0, last = i + 1 == fragments;
        sender.send_fragment(type, as_bytes(payload), first, last, wire.queue);
        expected.push_back(type_name + std::to_string(payload.size()) + ")" +
                           (first ? " start" : "") + (last ? " end " : " ") + quoted_text(payload));
        if (random() % 3 != 0) continue;
        const std::string control = pick().substr(0, 125);
        sender.send_ping(as_bytes(control), wire.queue);
        expected.push_back("ping " + quoted_text(control));
      }
    }
    sender.send_close(1000, "done", wire.queue);
    expected.push_back("close 1000 \"done\"");

    const std::string bytes = wire.take();
    const std::size_t size_max = random() % 2 == 0 ? 16 : 5000;
    const auto lines =
        run(other(role), limits, as_bytes(bytes), [&] { return random() % size_max; });
    CHECK(joined(lines) == joined(expected));
  }
}

TEST_CASE("endless fragments, with or without payload, end at the limit (RFC 6455 10.4)") {
  for (const std::string& payload : {std::string(), std::string("x")}) {
    std::string input = raw_frame(Role::server, {.opcode = 2, .payload = payload, .fin = false});
    for (int i = 0; i < 5000; ++i) {
      input += raw_frame(Role::server, {.opcode = 0, .payload = payload, .fin = false});
    }
    const auto lines = run_whole(Role::server, {.message_bytes_max = 100000, .fragments_max = 1024},
                                 as_bytes(input));
    CHECK(lines.size() == 1025);
    CHECK(lines.back() == "failure 1008 \"too many fragments\"");
  }
}

TEST_CASE("an idle connection holds no memory beyond the protocol itself") {
  CHECK(sizeof(Protocol) <= 136);
}
