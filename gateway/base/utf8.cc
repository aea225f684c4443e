#include "base/utf8.h"

#include <cstring>

#include "base/block.h"

namespace sluice {
namespace {

std::uint64_t load8(const std::uint8_t* bytes) {
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// Four blocks at a time, as long as they are ASCII.
template <typename Any>
[[gnu::always_inline]] inline const std::uint8_t* skip_ascii_blocks(const std::uint8_t* at,
                                                                    const std::uint8_t* end) {
  constexpr std::ptrdiff_t step = 4 * sizeof(Any);
  for (; end - at >= step; at += step) {
    Any seen;
    std::memcpy(&seen, at, sizeof(Any));
    for (std::size_t i = 1; i < 4; ++i) {
      Any next;
      std::memcpy(&next, at + i * sizeof(Any), sizeof(Any));
      seen |= next;
    }
    if (!is_ascii(bits_of(seen))) break;
  }
  return at;
}

SLUICE_WIDE_BLOCKS const std::uint8_t* skip_ascii_wide(const std::uint8_t* at,
                                                       const std::uint8_t* end) {
  return skip_ascii_blocks<WideBlock>(at, end);
}

// The first byte that is not ASCII, or `end`.
const std::uint8_t* skip_ascii(const std::uint8_t* at, const std::uint8_t* end) {
  if (end - at >= static_cast<std::ptrdiff_t>(wide_bytes_min) && has_wide_blocks()) {
    at = skip_ascii_wide(at, end);
  }
  at = skip_ascii_blocks<Block>(at, end);
  while (end - at >= 8 && is_ascii(load8(at))) at += 8;
  while (at != end && *at < 0x80) ++at;
  return at;
}

// Whether the three bytes are a character of U+1000-U+CFFF or U+E000-U+FFFF: the lead bytes E1-EC,
// EE and EF, which put no limit of their own on the second byte. Nearly all Chinese, Japanese and
// Korean text consists of these.
bool is_plain_three(const std::uint8_t* at) {
  const std::uint32_t word = static_cast<std::uint32_t>(at[0]) |
                             static_cast<std::uint32_t>(at[1]) << 8 |
                             static_cast<std::uint32_t>(at[2]) << 16;
  return (word & 0xC0C0F0) == 0x8080E0 && at[0] != 0xE0 && at[0] != 0xED;
}

// Greek, Cyrillic, Hebrew, Arabic: any character of two bytes.
const std::uint8_t* skip_two(const std::uint8_t* at, const std::uint8_t* end) {
  while (end - at >= 2 && at[0] >= 0xC2 && at[0] <= 0xDF && (at[1] & 0xC0) == 0x80) at += 2;
  return at;
}

const std::uint8_t* skip_plain_three(const std::uint8_t* at, const std::uint8_t* end) {
  while (end - at >= 3 && is_plain_three(at)) at += 3;
  return at;
}

}  // namespace

// RFC 3629 section 4: the ABNF of the well-formed sequences, lead byte by lead byte.
bool Utf8Validator::begin_character(std::uint8_t lead) {
  if (lead < 0x80) return true;
  low_ = 0x80;
  high_ = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {  // C0 and C1 could only begin overlong forms
    missing_ = 1;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    missing_ = 2;
    if (lead == 0xE0) low_ = 0xA0;   // below: overlong
    if (lead == 0xED) high_ = 0x9F;  // above: surrogates, U+D800-U+DFFF
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    missing_ = 3;
    if (lead == 0xF0) low_ = 0x90;   // below: overlong
    if (lead == 0xF4) high_ = 0x8F;  // above: over U+10FFFF
  } else {
    missing_ = 1;  // an empty range: no byte can repair it
    low_ = 0xFF;
    high_ = 0x00;
    return false;
  }
  return true;
}

bool Utf8Validator::continue_character(std::uint8_t byte) {
  if (byte < low_ || byte > high_) {
    low_ = 0xFF;
    high_ = 0x00;
    return false;
  }
  --missing_;
  low_ = 0x80;
  high_ = 0xBF;
  return true;
}

bool Utf8Validator::feed(Bytes bytes) {
  const std::uint8_t* at = bytes.data();
  const std::uint8_t* const end = at + bytes.size();
  while (at != end) {
    if (missing_ != 0) {
      if (!continue_character(*at++)) return false;
      continue;
    }
    at = skip_two(skip_plain_three(skip_ascii(at, end), end), end);
    if (at != end && !begin_character(*at++)) return false;
  }
  return true;
}

bool is_valid_utf8(Bytes bytes) {
  Utf8Validator validator;
  return validator.feed(bytes) && validator.complete();
}

}  // namespace sluice
