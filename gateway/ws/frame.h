// The frames of RFC 6455 section 5.2: the header read and written, the payload masked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace sluice::ws {

// RFC 6455 5.2 and 11.8. All other values are reserved.
enum class Opcode : std::uint8_t {
  continuation = 0,
  text = 1,
  binary = 2,
  close = 8,
  ping = 9,
  pong = 10,
};

// RFC 6455 5.5: the opcodes whose most significant bit is 1.
constexpr bool is_control(Opcode opcode) {
  return (static_cast<unsigned>(opcode) & 8U) != 0;
}

// RFC 6455 5.5: a control frame has a payload of 125 bytes or less.
inline constexpr std::size_t control_bytes_max = 125;

struct FrameHeader {
  bool fin = true;
  bool masked = false;
  bool compressed = false;  // RSV1, of a message's first frame (RFC 7692 6)
  Opcode opcode = Opcode::continuation;
  std::uint32_t mask = 0;  // its four bytes in memory are those on the wire
  std::uint64_t payload_bytes = 0;
};

inline constexpr std::size_t header_bytes_max = 14;

// The size of the header of a frame with that payload, on the wire.
constexpr std::size_t header_size(std::uint64_t payload_bytes, bool masked) {
  const std::size_t length = payload_bytes < 126 ? 2 : payload_bytes < 65536 ? 4 : 10;
  return length + (masked ? 4 : 0);
}

// Writes header_size() bytes, at most header_bytes_max; returns how many.
std::size_t write_header(const FrameHeader& header, std::uint8_t* out);

// Why a peer's bytes are refused: the code to fail the connection with, and why in words.
struct Violation {
  std::uint16_t close_code;
  std::string_view reason;  // at most close_reason_bytes_max: it goes into the Close frame
};

// What the state of the connection allows the next frame to be.
struct FrameRules {
  bool masked;                      // true: from a client; false: from a server (RFC 6455 5.1)
  bool in_message;                  // a fragmented message is unfinished
  bool fragments_used_up;           // no further data frame may come
  std::uint64_t payload_bytes_max;  // of a data frame
  bool compression = false;         // RSV1 may be set on the first frame of a message
  std::uint64_t compressed_bytes_max = 0;  // of a data frame with RSV1
};

// Reads the header of one frame after the other, from bytes that come in pieces of any size. Each
// rule is checked as soon as the byte that can break it is there, not when the header is whole.
class HeaderParser {
 public:
  struct Step {
    bool complete = false;  // `header` is whole
    const Violation* violation = nullptr;
    FrameHeader header;
  };

  // Takes the bytes of the header from the front of `input`. If it is not complete and there is no
  // violation, all of `input` was taken. Not to be called again after a violation.
  Step parse(MutableBytes& input, const FrameRules& rules);
  // Whether a part of a header was taken.
  bool begun() const { return size_ != 0; }

 private:
  Step gather(MutableBytes& input, const FrameRules& rules);

  std::array<std::uint8_t, header_bytes_max> bytes_;  // of a header that spans reads
  std::uint8_t size_ = 0;
};

// Masks or unmasks (RFC 6455 5.3) `from` into as many bytes at `to`, which may be the same ones.
// `offset` is the place of the first byte in the frame's payload; only its remainder by four
// matters. Returns whether all that was written is ASCII.
bool apply_mask(Bytes from, std::uint8_t* to, std::uint32_t mask, std::size_t offset);

}  // namespace sluice::ws
