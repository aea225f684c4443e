#include "base/utf8.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

// Up to here the look at ASCII, which is most of what is short, costs less than a call of simdjson.
constexpr std::ptrdiff_t short_bytes_max = 256;

// The first byte that is not ASCII, or `end`.
const std::uint8_t* skip_ascii(const std::uint8_t* at, const std::uint8_t* end) {
  for (std::uint64_t word; end - at >= 8; at += 8) {
    std::memcpy(&word, at, sizeof word);
    if ((word & 0x8080808080808080) != 0) break;
  }
  while (at != end && *at < 0x80) ++at;
  return at;
}

// Where the text is cut if its last character is not complete; else `end`.
const std::uint8_t* last_boundary(const std::uint8_t* at, const std::uint8_t* end) {
  for (std::ptrdiff_t size = 1; size <= std::min<std::ptrdiff_t>(3, end - at); ++size) {
    const std::uint8_t byte = end[-size];
    if ((byte & 0xC0) == 0x80) continue;
    const std::ptrdiff_t whole = byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    return whole > size ? end - size : end;
  }
  return end;
}

// What is seen to be valid at once. If not all of it is, somebody else says where it fails.
const std::uint8_t* skip_valid(const std::uint8_t* at, const std::uint8_t* end) {
  if (end - at <= short_bytes_max) at = skip_ascii(at, end);
  if (at == end) return at;
  const std::uint8_t* const boundary = last_boundary(at, end);
  const auto size = static_cast<std::size_t>(boundary - at);
  return simdjson::validate_utf8(reinterpret_cast<const char*>(at), size) ? boundary : at;
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
  while (at != end && missing_ != 0) {
    if (!continue_character(*at++)) return false;
  }
  at = skip_valid(at, end);
  for (; at != end; ++at) {
    if (missing_ == 0 ? !begin_character(*at) : !continue_character(*at)) return false;
  }
  return true;
}

bool is_valid_utf8(Bytes bytes) {
  Utf8Validator validator;
  return validator.feed(bytes) && validator.complete();
}

}  // namespace sluice
