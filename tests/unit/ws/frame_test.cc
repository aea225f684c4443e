#include "ws/frame.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/block.h"

using namespace sluice;
using namespace sluice::ws;

namespace {

std::string written(const FrameHeader& header) {
  std::uint8_t bytes[header_bytes_max];
  const std::size_t size = write_header(header, bytes);
  CHECK(size == header_size(header.payload_bytes, header.masked));
  return std::string(as_text({bytes, size}));
}

std::uint32_t mask_of(std::string_view bytes) {
  std::uint32_t mask;
  std::memcpy(&mask, bytes.data(), sizeof(mask));
  return mask;
}

// With and without a whole block of each size in them (base/block.h).
std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t size = 0; size <= 140; ++size) all.push_back(size);
  for (std::size_t size = wide_bytes_min - 3; size <= wide_bytes_min + 67; ++size)
    all.push_back(size);
  return all;
}

}  // namespace

TEST_CASE("headers are the golden bytes of RFC 6455 5.7") {
  using namespace std::string_literals;
  const std::uint32_t mask = mask_of("\x37\xfa\x21\x3d");
  CHECK(written({.opcode = Opcode::text, .payload_bytes = 5}) == "\x81\x05");
  CHECK(written({.masked = true, .opcode = Opcode::text, .mask = mask, .payload_bytes = 5}) ==
        "\x81\x85\x37\xfa\x21\x3d");
  CHECK(written({.fin = false, .opcode = Opcode::text, .payload_bytes = 3}) == "\x01\x03");
  CHECK(written({.opcode = Opcode::continuation, .payload_bytes = 2}) == "\x80\x02");
  CHECK(written({.opcode = Opcode::ping, .payload_bytes = 5}) == "\x89\x05");
  CHECK(written({.masked = true, .opcode = Opcode::pong, .mask = mask, .payload_bytes = 5}) ==
        "\x8a\x85\x37\xfa\x21\x3d");
  CHECK(written({.opcode = Opcode::binary, .payload_bytes = 256}) == "\x82\x7e\x01\x00"s);
  CHECK(written({.opcode = Opcode::binary, .payload_bytes = 65536}) ==
        "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"s);
}

TEST_CASE("the shortest form of the length is written at every boundary (RFC 6455 5.2)") {
  using namespace std::string_literals;
  const auto length = [](std::uint64_t bytes) {
    return written({.opcode = Opcode::binary, .payload_bytes = bytes}).substr(1);
  };
  CHECK(length(0) == "\x00"s);
  CHECK(length(1) == "\x01"s);
  CHECK(length(125) == "\x7d"s);
  CHECK(length(126) == "\x7e\x00\x7e"s);
  CHECK(length(127) == "\x7e\x00\x7f"s);
  CHECK(length(65535) == "\x7e\xff\xff"s);
  CHECK(length(65536) == "\x7f\x00\x00\x00\x00\x00\x01\x00\x00"s);
  CHECK(length(UINT64_MAX >> 1) == "\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"s);
  CHECK(written({.masked = true, .payload_bytes = 65536}).size() == header_bytes_max);
}

TEST_CASE("the mask is applied byte by byte, modulo four, at every offset (RFC 6455 5.3)") {
  const std::string key = "\x37\xfa\x21\x3d";
  for (const std::size_t size : sizes()) {
    for (std::size_t offset = 0; offset < 6; ++offset) {
      for (std::size_t alignment = 0; alignment < 3; ++alignment) {
        std::vector<std::uint8_t> bytes(size + alignment + 8);
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 3);
        std::vector<std::uint8_t> expected = bytes;
        for (std::size_t i = 0; i < size; ++i) {
          expected[alignment + i] ^= static_cast<std::uint8_t>(key[(offset + i) % 4]);
        }
        const MutableBytes text(bytes.data() + alignment, size);
        std::vector<std::uint8_t> elsewhere(bytes.size());
        apply_mask(text, elsewhere.data() + alignment, mask_of(key), offset);
        CHECK(as_text(Bytes(elsewhere).subspan(alignment, size)) ==
              as_text(Bytes(expected).subspan(alignment, size)));
        apply_mask(text, text.data(), mask_of(key), offset);
        CHECK(bytes == expected);  // and nothing beside it was touched
      }
    }
  }
}

TEST_CASE("whoever applies a mask learns whether the result is ASCII, wherever a byte is not") {
  const std::uint32_t mask = mask_of("\x81\x02\x83\x04");
  for (const std::size_t size : sizes()) {
    std::vector<std::uint8_t> masked(size, 0x7F);
    apply_mask(masked, masked.data(), mask, 0);
    std::vector<std::uint8_t> plain(size);
    CHECK(apply_mask(masked, plain.data(), mask, 0));
    for (std::size_t place = 0; place < size; ++place) {
      masked[place] ^= 0x80;
      CHECK_FALSE(apply_mask(masked, plain.data(), mask, 0));
      masked[place] ^= 0x80;
    }
  }
}

TEST_CASE("the parser takes the header and leaves the payload (RFC 6455 5.2)") {
  std::string input = "\x81\x85\x37\xfa\x21\x3dpayload";
  HeaderParser parser;
  const FrameRules rules{true, false, false, 100};
  for (const std::size_t cut : {0U, 1U, 3U, 5U}) {
    MutableBytes begin(reinterpret_cast<std::uint8_t*>(input.data()), cut);
    MutableBytes rest(reinterpret_cast<std::uint8_t*>(input.data()) + cut, input.size() - cut);
    CHECK_FALSE(parser.parse(begin, rules).complete);
    CHECK(begin.empty());
    CHECK(parser.begun() == (cut != 0));
    const HeaderParser::Step step = parser.parse(rest, rules);
    REQUIRE(step.complete);
    CHECK(as_text(rest) == "payload");
    CHECK_FALSE(parser.begun());
    CHECK(step.header.fin);
    CHECK(step.header.masked);
    CHECK(step.header.opcode == Opcode::text);
    CHECK(step.header.payload_bytes == 5);
    CHECK(step.header.mask == mask_of("\x37\xfa\x21\x3d"));
  }
}
