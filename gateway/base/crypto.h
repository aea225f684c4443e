// The few cryptographic functions that the gateway needs apart from TLS, from OpenSSL's libcrypto.
// All are thread-safe. None fails: without a digest or a random generator the process stops.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace sluice {

// For the opening handshake (RFC 6455 4.2.2); not for anything that must be secure.
std::array<std::uint8_t, 20> sha1(Bytes bytes);

// RFC 2104 with SHA-256. A key of any length.
std::array<std::uint8_t, 32> hmac_sha256(Bytes key, Bytes message);

// Whether both are the same, in a time that depends on their lengths only.
bool equal_in_constant_time(Bytes a, Bytes b);

// RFC 4648 section 4: the alphabet with "+" and "/", padded.
std::string base64(Bytes bytes);
// RFC 4648 section 5: the alphabet with "-" and "_", without padding.
std::string base64url(Bytes bytes);

// Nothing if the text is not in that form: other characters, padding that is missing (or, for
// base64url, there), bits that no byte takes.
std::optional<std::string> base64_decode(std::string_view text);
std::optional<std::string> base64url_decode(std::string_view text);

// Fills `bytes` from OpenSSL's cryptographically secure generator; a few come through a block that
// each thread keeps.
void random_bytes(MutableBytes bytes);

// A fresh masking key (RFC 6455 10.3), in the same way.
std::uint32_t random_mask();

}  // namespace sluice
