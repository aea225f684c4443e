// The negotiation of permessage-deflate (RFC 7692 section 7.1), for both ends. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ws/extensions.h"

namespace sluice::ws {

inline constexpr std::uint8_t window_bits_min = 8;
inline constexpr std::uint8_t window_bits_max = 15;

// How one end compresses what it sends.
struct DeflateDirection {
  bool context_takeover = false;  // a message may refer to those before it
  std::uint8_t window_bits = window_bits_max;

  friend bool operator==(const DeflateDirection&, const DeflateDirection&) = default;
};

// What both ends have agreed on.
struct DeflateParameters {
  DeflateDirection server;
  DeflateDirection client;

  friend bool operator==(const DeflateParameters&, const DeflateParameters&) = default;
};

// What our end wants.
struct DeflatePolicy {
  bool context_takeover = false;
  std::uint8_t window_bits = window_bits_max;  // at most, in either direction
};

struct DeflateAgreement {
  DeflateParameters parameters;
  std::string field;  // the value of Sec-WebSocket-Extensions that tells the client
};

// The server's choice: the first offer of permessage-deflate that is valid, on the policy's terms.
// Offers with unknown, repeated or invalid parameters are declined (RFC 7692 7.1). Nothing if none
// is left.
std::optional<DeflateAgreement> agree_to_deflate(const std::vector<Extension>& offers,
                                                 const DeflatePolicy& policy);

// A client's offer on the policy's terms, as a field's value.
std::string deflate_offer(const DeflatePolicy& policy);

// What a server's answer to deflate_offer(policy) agrees to; an error if it may not be answered so,
// and the connection is to be failed (RFC 7692 7.1).
Result<DeflateParameters> check_deflate_answer(std::string_view field, const DeflatePolicy& policy);

// ---- For relays that let compressed messages pass as they are.

// Of a client's offers those that can be passed on: valid ones of permessage-deflate. Empty: none.
std::string passable_offers(const std::vector<Extension>& offers);
// Whether this answer agrees to one of them.
bool answers_offers(std::string_view field, std::string_view offers);

}  // namespace sluice::ws
