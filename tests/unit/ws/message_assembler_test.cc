#include "ws/message_assembler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>

using namespace sluice;
using namespace sluice::ws;

namespace {

// What operator new was asked for, in this executable, since this was last set to nothing.
struct Allocations {
  std::size_t count = 0;
  std::size_t bytes_max = 0;  // the largest
};
Allocations allocations;

// A data event whose payload is a view of `payload`.
Event piece(std::string& payload, bool start, bool end) {
  Event event;
  event.message_start = start;
  event.message_end = end;
  event.payload = {reinterpret_cast<std::uint8_t*>(payload.data()), payload.size()};
  return event;
}

}  // namespace

void* operator new(std::size_t size) {
  ++allocations.count;
  allocations.bytes_max = std::max(allocations.bytes_max, size);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

TEST_CASE("an empty message is a message (RFC 6455 5.6)") {
  MessageAssembler assembler(0);
  std::string nothing;
  CHECK_FALSE(assembler.add(piece(nothing, true, false)));
  const auto message = assembler.add(piece(nothing, false, true));
  REQUIRE(message);
  CHECK(message->empty());
}

TEST_CASE("fragments are gathered in their order (RFC 6455 5.4)") {
  MessageAssembler assembler(0);
  std::string first = "Hel", second = "lo", third = "!";
  for (int round = 0; round < 3; ++round) {
    CHECK_FALSE(assembler.add(piece(first, true, false)));
    CHECK_FALSE(assembler.add(piece(second, false, false)));
    const auto message = assembler.add(piece(third, false, true));
    REQUIRE(message);
    CHECK(as_text(*message) == "Hello!");
  }
}

TEST_CASE("memory grows with what was received, not with what may come (RFC 6455 10.4)") {
  MessageAssembler assembler(UINT64_C(1) << 40);
  std::string byte = "x";
  const Event event = piece(byte, true, false);
  allocations = {};
  CHECK_FALSE(assembler.add(event));
  CHECK(allocations.bytes_max <= 64);
}

TEST_CASE("what is announced is believed up to four times of what was received") {
  struct Case {
    std::uint64_t announced;
    std::size_t bytes_max;
  };
  for (const Case c : {Case{4000, 4000}, Case{4001, 1000}, Case{UINT64_C(1) << 62, 1000}}) {
    CAPTURE(c.announced);
    MessageAssembler assembler(0);
    std::string payload(1000, 'x');
    Event event = piece(payload, true, false);
    event.frame_start = true;
    event.frame_bytes = c.announced;
    allocations = {};
    CHECK_FALSE(assembler.add(event));
    CHECK(allocations.bytes_max == c.bytes_max);
  }
}

TEST_CASE("a message that was announced is copied once, a frame behind another one too") {
  MessageAssembler assembler(0);
  std::string payload(1000, 'x');
  allocations = {};
  for (int frame = 0; frame < 2; ++frame) {
    for (int i = 0; i < 4; ++i) {
      Event event = piece(payload, frame == 0 && i == 0, frame == 1 && i == 3);
      event.frame_start = i == 0;
      event.frame_bytes = i == 0 ? 4000 : 0;
      const auto message = assembler.add(event);
      CHECK(message.has_value() == event.message_end);
      if (message) CHECK(message->size() == 8000);
    }
  }
  CHECK(allocations.count == 2);
  CHECK(allocations.bytes_max == 8000);
}

TEST_CASE("memory is doubled, but never beyond the limit of a message (RFC 6455 10.4)") {
  constexpr std::size_t limit = 100'000;
  MessageAssembler assembler(limit);
  std::string payload(100, 'x');
  std::optional<Bytes> message;
  allocations = {};
  for (std::size_t i = 0; i < limit / 100; ++i) {
    message = assembler.add(piece(payload, i == 0, i + 1 == limit / 100));
  }
  const Allocations made = allocations;
  REQUIRE(message);
  CHECK(message->size() == limit);
  CHECK(made.bytes_max == limit);
  CHECK(made.count < 15);
}
