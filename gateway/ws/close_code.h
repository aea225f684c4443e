// Close codes (RFC 6455 7.4, and the registry of codes that IANA keeps since).
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::ws {

enum CloseCode : std::uint16_t {
  normal = 1000,
  going_away = 1001,
  protocol_error = 1002,
  unsupported_data = 1003,
  no_status = 1005,  // only inside a program: a Close frame without a code
  abnormal = 1006,   // only inside a program: no Close frame at all
  invalid_payload = 1007,
  policy_violation = 1008,
  message_too_big = 1009,
  mandatory_extension = 1010,
  internal_error = 1011,
  service_restart = 1012,
  try_again_later = 1013,
  bad_gateway = 1014,
  tls_handshake = 1015,  // only inside a program: the TLS handshake failed
};

// The reason that follows the code in a Close frame: RFC 6455 5.5 leaves a control frame 125 bytes,
// and the code takes two of them.
inline constexpr std::size_t close_reason_bytes_max = 123;

// What a Close frame may say, whoever sends it.
// RFC 6455 7.4.1: 1005, 1006 and 1015 "MUST NOT be set as a status code in a Close control frame";
// 1004 has no meaning yet. RFC 6455 7.4.2: 0-999 are not used; 1016-2999 are left for future
// versions and extensions; 3000-3999 are for libraries and frameworks, 4000-4999 for private use.
constexpr bool may_be_on_the_wire(std::uint16_t code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
         (code >= 3000 && code <= 4999);
}

// What WebSocket.close() of a browser accepts; the other codes are the gateway's own.
constexpr bool application_may_send(std::uint16_t code) {
  return code == normal || (code >= 3000 && code <= 4999);
}

}  // namespace sluice::ws
