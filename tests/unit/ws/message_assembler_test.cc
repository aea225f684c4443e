#include "ws/message_assembler.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace sluice;
using namespace sluice::ws;

namespace {

// A data event whose payload is a view of `payload`.
Event piece(std::string& payload, bool start, bool end) {
  Event event;
  event.message_start = start;
  event.message_end = end;
  event.payload = {reinterpret_cast<std::uint8_t*>(payload.data()), payload.size()};
  return event;
}

}  // namespace

TEST_CASE("a message in one piece is passed through without a copy (RFC 6455 5.6)") {
  MessageAssembler assembler;
  std::string payload = "Hello";
  const auto message = assembler.add(piece(payload, true, true));
  REQUIRE(message);
  CHECK(static_cast<const void*>(message->data()) == payload.data());
  CHECK(message->size() == 5);
  CHECK(assembler.capacity() == 0);
}

TEST_CASE("an empty message is a message (RFC 6455 5.6)") {
  MessageAssembler assembler;
  std::string nothing;
  const auto whole = assembler.add(piece(nothing, true, true));
  REQUIRE(whole);
  CHECK(whole->empty());
  CHECK_FALSE(assembler.add(piece(nothing, true, false)));
  const auto fragmented = assembler.add(piece(nothing, false, true));
  REQUIRE(fragmented);
  CHECK(fragmented->empty());
}

TEST_CASE("fragments are gathered in their order (RFC 6455 5.4)") {
  MessageAssembler assembler;
  std::string first = "Hel", second = "lo", third = "!";
  for (int round = 0; round < 3; ++round) {
    CHECK_FALSE(assembler.add(piece(first, true, false)));
    CHECK_FALSE(assembler.add(piece(second, false, false)));
    const auto message = assembler.add(piece(third, false, true));
    REQUIRE(message);
    CHECK(as_text(*message) == "Hello!");
  }
}

TEST_CASE("memory grows with what was received, not with what was announced (hostile row 31)") {
  MessageAssembler assembler(UINT64_C(1) << 40);
  std::string byte = "x";
  Event event = piece(byte, true, false);
  event.frame_bytes = UINT64_C(1) << 32;
  CHECK_FALSE(assembler.add(event));
  CHECK(assembler.capacity() <= 64);
}

TEST_CASE("memory is doubled, but never beyond the limit of a message (hostile row 32)") {
  constexpr std::size_t limit = 100'000;
  MessageAssembler assembler(limit);
  std::string payload(100, 'x');
  int growths = 0;
  for (std::size_t i = 0; i < limit / 100; ++i) {
    const std::size_t before = assembler.capacity();
    assembler.add(piece(payload, i == 0, i + 1 == limit / 100));
    growths += assembler.capacity() != before;
  }
  CHECK(assembler.capacity() == limit);
  CHECK(growths < 15);
}

TEST_CASE("an idle connection keeps no memory of its last message") {
  MessageAssembler assembler;
  std::string payload(10'000, 'x');
  assembler.add(piece(payload, true, false));
  assembler.release();  // in the middle of a message: nothing is lost
  const auto message = assembler.add(piece(payload, false, true));
  REQUIRE(message);
  CHECK(message->size() == 20'000);
  assembler.release();
  CHECK(assembler.capacity() == 0);
  CHECK(sizeof(MessageAssembler) <= 40);
}
