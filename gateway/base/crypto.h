// The few cryptographic functions that the gateway needs apart from TLS, from OpenSSL's libcrypto.
// All are thread-safe. None fails: without a digest or a random generator the process stops.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice {

// For the opening handshake (RFC 6455 4.2.2); not for anything that must be secure.
std::array<std::uint8_t, 20> sha1(Bytes bytes);

// RFC 4648 section 4: the alphabet with "+" and "/", padded.
std::string base64(Bytes bytes);

// Strict (RFC 4648 3.2, 3.3, 3.5): nothing if a character is foreign, the padding is missing or
// misplaced, or the unused bits of the last character are not zero.
std::optional<std::vector<std::uint8_t>> base64_decode(std::string_view text);

// Fills `bytes` from OpenSSL's cryptographically secure generator.
void random_bytes(MutableBytes bytes);

// A fresh masking key (RFC 6455 10.3), from the same generator through a block that each thread
// keeps, since one call for every frame would cost more than the frame.
std::uint32_t random_mask();

}  // namespace sluice
