// UTF-8 (RFC 3629) validated as it arrives, in pieces of any size.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace sluice {

// Fails at the first byte after which the text can no longer become valid: overlong forms,
// surrogates and values over U+10FFFF fail at their second byte, not at their last.
class Utf8Validator {
 public:
  // Returns whether everything so far is, or can still become, valid. Once false, it stays false
  // for every further byte.
  bool feed(Bytes bytes);
  // Whether the text may end here: it does not end inside a character.
  bool complete() const { return missing_ == 0; }

 private:
  bool begin_character(std::uint8_t lead);
  bool continue_character(std::uint8_t byte);

  std::uint8_t missing_ = 0;  // bytes that the present character still needs
  std::uint8_t low_ = 0x80;   // the range that the next of them must be in
  std::uint8_t high_ = 0xBF;
};

// The whole text at once.
bool is_valid_utf8(Bytes bytes);

}  // namespace sluice
