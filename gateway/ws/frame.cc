#include "ws/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/block.h"
#include "ws/close_code.h"

namespace sluice::ws {
namespace {

constexpr Violation reserved_bits{protocol_error, "reserved bits are set"};
constexpr Violation reserved_opcode{protocol_error, "reserved opcode"};
constexpr Violation control_fragmented{protocol_error, "fragmented control frame"};
constexpr Violation control_too_long{protocol_error, "control frame over 125 bytes"};
constexpr Violation close_too_short{protocol_error, "Close frame of one byte"};
constexpr Violation nothing_to_continue{protocol_error, "continuation without a message"};
constexpr Violation message_unfinished{protocol_error, "new message inside a fragmented one"};
constexpr Violation not_masked{protocol_error, "frame from a client is not masked"};
constexpr Violation masked{protocol_error, "frame from a server is masked"};
constexpr Violation length_not_minimal{protocol_error, "payload length is not minimal"};
constexpr Violation length_negative{protocol_error, "payload length over 63 bits"};
constexpr Violation too_many_fragments{policy_violation, "too many fragments"};
constexpr Violation too_big{message_too_big, "message too big"};

constexpr std::uint8_t fin_bit = 0x80;
constexpr std::uint8_t mask_bit = 0x80;
constexpr std::uint8_t rsv1_bit = 0x40;
constexpr std::uint8_t rsv_bits = 0x70;

Opcode opcode_of(std::uint8_t first) {
  return static_cast<Opcode>(first & 0x0F);
}

// How many bytes the extended payload length takes (RFC 6455 5.2).
std::size_t extended_size(std::uint8_t second) {
  const int code = second & 0x7F;
  return code < 126 ? 0 : code == 126 ? 2 : 8;
}

// Where the payload length ends and the masking key, if any, begins.
std::size_t length_end(std::uint8_t second) {
  return 2 + extended_size(second);
}

std::size_t header_end(std::uint8_t second) {
  return length_end(second) + ((second & mask_bit) != 0 ? 4 : 0);
}

std::uint64_t read_big_endian(const std::uint8_t* bytes, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value = value << 8 | bytes[i];
  return value;
}

std::uint64_t payload_length(const std::uint8_t* header) {
  const std::size_t size = extended_size(header[1]);
  return size == 0 ? header[1] & 0x7F : read_big_endian(header + 2, size);
}

inline const Violation* check_control_opcode(std::uint8_t first) {
  // RFC 6455 5.2: opcodes B-F are reserved for further control frames.
  if (opcode_of(first) > Opcode::pong) return &reserved_opcode;
  // RFC 6455 5.5: control frames "MUST NOT be fragmented".
  if ((first & fin_bit) == 0) return &control_fragmented;
  return nullptr;
}

inline const Violation* check_data_opcode(Opcode opcode, const FrameRules& rules) {
  // RFC 6455 5.2: opcodes 3-7 are reserved for further non-control frames.
  if (opcode > Opcode::binary) return &reserved_opcode;
  // RFC 6455 5.4: a continuation follows a frame without FIN; the fragments of one message are not
  // interleaved with another's.
  if (opcode == Opcode::continuation && !rules.in_message) return &nothing_to_continue;
  if (opcode != Opcode::continuation && rules.in_message) return &message_unfinished;
  // RFC 6455 10.4: limits of our own on what a peer may make us hold.
  if (rules.fragments_used_up) return &too_many_fragments;
  return nullptr;
}

inline const Violation* check_first_byte(std::uint8_t first, const FrameRules& rules) {
  // RFC 6455 5.2: RSV1-3 "MUST be 0 unless an extension is negotiated". RFC 7692 6: with
  // permessage-deflate RSV1 is for the first frame of a message, never for control frames.
  const Opcode opcode = opcode_of(first);
  const bool may_compress =
      rules.compression && !is_control(opcode) && opcode != Opcode::continuation;
  if ((first & rsv_bits & ~(may_compress ? rsv1_bit : 0)) != 0) return &reserved_bits;
  return is_control(opcode) ? check_control_opcode(first) : check_data_opcode(opcode, rules);
}

inline const Violation* check_second_byte(std::uint8_t first, std::uint8_t second,
                                          const FrameRules& rules) {
  // RFC 6455 5.1: a client masks all frames that it sends, a server none; either end closes the
  // connection, with 1002, upon a frame that is not so.
  if (((second & mask_bit) != 0) != rules.masked) return rules.masked ? &not_masked : &masked;
  const Opcode opcode = opcode_of(first);
  if (!is_control(opcode)) return nullptr;
  const std::size_t length = second & 0x7F;
  // RFC 6455 5.5: control frames have a payload length of 125 bytes or less.
  if (length > control_bytes_max) return &control_too_long;
  // RFC 6455 5.5.1: if there is a body, its first two bytes are the code.
  if (opcode == Opcode::close && length == 1) return &close_too_short;
  return nullptr;
}

inline const Violation* check_length(const std::uint8_t* header, const FrameRules& rules) {
  const std::size_t size = extended_size(header[1]);
  const std::uint64_t length = payload_length(header);
  // RFC 6455 5.2: the most significant bit of a 64-bit length MUST be 0.
  if (length >> 63 != 0) return &length_negative;
  // RFC 6455 5.2: "the minimal number of bytes MUST be used to encode the length".
  if (size == 2 && length < 126) return &length_not_minimal;
  if (size == 8 && length < 65536) return &length_not_minimal;
  // RFC 6455 10.4, 7.4.1: refused before a byte of the payload, and before memory for it.
  const bool compressed = (header[0] & rsv1_bit) != 0;
  const std::uint64_t max = compressed ? rules.compressed_bytes_max : rules.payload_bytes_max;
  if (!is_control(opcode_of(header[0])) && length > max) return &too_big;
  return nullptr;
}

inline const Violation* check_whole(const std::uint8_t* header, const FrameRules& rules) {
  if (const Violation* violation = check_first_byte(header[0], rules)) return violation;
  if (const Violation* violation = check_second_byte(header[0], header[1], rules)) return violation;
  return check_length(header, rules);
}

// Checks what became known with the last of the `size` bytes that are there.
const Violation* check_newest_byte(const std::uint8_t* header, std::size_t size,
                                   const FrameRules& rules) {
  if (size == 1) return check_first_byte(header[0], rules);
  if (size == 2) {
    const Violation* violation = check_second_byte(header[0], header[1], rules);
    if (violation != nullptr) return violation;
  }
  if (size == 3 && extended_size(header[1]) == 8 && (header[2] & 0x80) != 0) {
    return &length_negative;
  }
  return size == length_end(header[1]) ? check_length(header, rules) : nullptr;
}

inline FrameHeader decode(const std::uint8_t* bytes) {
  FrameHeader header;
  header.fin = (bytes[0] & fin_bit) != 0;
  header.compressed = (bytes[0] & rsv1_bit) != 0;
  header.opcode = opcode_of(bytes[0]);
  header.masked = (bytes[1] & mask_bit) != 0;
  header.payload_bytes = payload_length(bytes);
  if (header.masked) std::memcpy(&header.mask, bytes + length_end(bytes[1]), sizeof(header.mask));
  return header;
}

// The mask as it is for a payload that begins `offset` bytes later.
std::uint32_t rotate_mask(std::uint32_t mask, std::size_t offset) {
  const int bits = static_cast<int>(offset % 4) * 8;
  return std::endian::native == std::endian::little ? std::rotr(mask, bits) : std::rotl(mask, bits);
}

// One word of what apply_mask() does; returns what was written.
template <typename Word>
Word mask_word(const std::uint8_t* from, std::uint8_t* to, Word mask) {
  Word word;
  std::memcpy(&word, from, sizeof(word));
  word = static_cast<Word>(word ^ mask);
  std::memcpy(to, &word, sizeof(word));
  return word;
}

// Masks two blocks at a time, as long as there are two; returns all bits that were written.
template <typename Any>
[[gnu::always_inline]] inline std::uint64_t mask_blocks(const std::uint8_t* from, std::uint8_t* to,
                                                        std::size_t size, std::uint64_t mask) {
  constexpr std::size_t step = 2 * sizeof(Any);
  const Any masks = Any{} + mask;
  Any seen = {};
  Any first;
  Any second;
  for (; size >= step; size -= step, from += step, to += step) {
    std::memcpy(&first, from, sizeof(Any));
    std::memcpy(&second, from + sizeof(Any), sizeof(Any));
    first ^= masks;
    second ^= masks;
    seen |= first | second;
    std::memcpy(to, &first, sizeof(Any));
    std::memcpy(to + sizeof(Any), &second, sizeof(Any));
  }
  return bits_of(seen);
}

SLUICE_WIDE_BLOCKS std::uint64_t mask_wide_blocks(const std::uint8_t* from, std::uint8_t* to,
                                                  std::size_t size, std::uint64_t mask) {
  return mask_blocks<WideBlock>(from, to, size, mask);
}

// Masks whole steps of two blocks; returns all bits that were written.
std::uint64_t mask_steps(const std::uint8_t* from, std::uint8_t* to, std::size_t size,
                         std::uint64_t mask) {
  constexpr std::size_t wide_step = 2 * sizeof(WideBlock);
  std::uint64_t seen = 0;
  if (size >= wide_bytes_min && has_wide_blocks()) {
    seen = mask_wide_blocks(from, to, size, mask);
    const std::size_t done = size - size % wide_step;
    from += done, to += done, size -= done;
  }
  return seen | mask_blocks<Block>(from, to, size, mask);
}

}  // namespace

std::size_t write_header(const FrameHeader& header, std::uint8_t* out) {
  const std::uint64_t length = header.payload_bytes;
  out[0] =
      static_cast<std::uint8_t>((header.fin ? fin_bit : 0U) | (header.compressed ? rsv1_bit : 0U) |
                                static_cast<unsigned>(header.opcode));
  const unsigned code = length < 126 ? static_cast<unsigned>(length) : length < 65536 ? 126 : 127;
  out[1] = static_cast<std::uint8_t>((header.masked ? mask_bit : 0U) | code);
  std::size_t size = 2;
  for (std::size_t left = extended_size(out[1]); left > 0; --left) {
    out[size++] = static_cast<std::uint8_t>(length >> (8 * (left - 1)));
  }
  if (!header.masked) return size;
  std::memcpy(out + size, &header.mask, sizeof(header.mask));
  return size + sizeof(header.mask);
}

HeaderParser::Step HeaderParser::parse(MutableBytes& input, const FrameRules& rules) {
  if (size_ != 0 || input.size() < 2 || input.size() < header_end(input[1])) {
    return gather(input, rules);
  }
  const std::uint8_t* bytes = input.data();
  if (const Violation* violation = check_whole(bytes, rules)) return {false, violation, {}};
  input = input.subspan(header_end(bytes[1]));
  return {true, nullptr, decode(bytes)};
}

HeaderParser::Step HeaderParser::gather(MutableBytes& input, const FrameRules& rules) {
  while (!input.empty()) {
    bytes_[size_++] = input.front();
    input = input.subspan(1);
    const Violation* violation = check_newest_byte(bytes_.data(), size_, rules);
    if (violation != nullptr) return {false, violation, {}};
    if (size_ >= 2 && size_ == header_end(bytes_[1])) {
      size_ = 0;
      return {true, nullptr, decode(bytes_.data())};
    }
  }
  return {};
}

bool apply_mask(Bytes from, std::uint8_t* to, std::uint32_t mask, std::size_t offset) {
  mask = rotate_mask(mask, offset);
  const std::uint64_t wide = static_cast<std::uint64_t>(mask) << 32 | mask;
  const std::uint8_t* at = from.data();
  std::size_t left = from.size();
  std::uint64_t seen = 0;
  const auto skip = [&](std::size_t count) { at += count, to += count, left -= count; };
  if (left >= 2 * sizeof(Block)) {
    seen = mask_steps(at, to, left, wide);
    skip(left - left % (2 * sizeof(Block)));
  }
  for (; left >= 8; left -= 8, at += 8, to += 8) seen |= mask_word(at, to, wide);
  if (left >= 4) {
    seen |= mask_word(at, to, mask);
    left -= 4, at += 4, to += 4;
  }
  std::uint8_t key[4];
  std::memcpy(key, &mask, sizeof(key));
  for (std::size_t i = 0; i < left; ++i) seen |= mask_word(at + i, to + i, key[i]);
  return is_ascii(seen);
}

}  // namespace sluice::ws
