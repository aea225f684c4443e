// The parts of the opening handshake (RFC 6455 section 4) that are not HTTP. Pure functions, linear
// in the size of their input whatever it contains.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::ws {

// The value of Sec-WebSocket-Accept that answers a key (RFC 6455 4.2.2, item 5.4).
std::string accept_key(std::string_view key);

// Whether a Sec-WebSocket-Key is 16 bytes in base64 (RFC 6455 4.2.1, item 5).
bool is_valid_key(std::string_view key);

// A fresh random key for the client's side (RFC 6455 4.1, item 7).
std::string make_key();

inline constexpr std::size_t offered_protocols_max = 32;

// The subprotocols of a Sec-WebSocket-Protocol field, in the client's order of preference (RFC 6455
// 4.1, item 10). Fields that came more than once are joined with commas before. An error if the
// list is empty, holds anything but tokens, names one twice, or is longer than
// offered_protocols_max.
Result<std::vector<std::string>> parse_protocols(std::string_view value);

// The first of `supported` that was offered: the server's order of preference decides. Compared
// exactly. The result is a view of an element of `supported`; nothing if they have none in common.
std::optional<std::string_view> select_protocol(const std::vector<std::string>& offered,
                                                const std::vector<std::string>& supported);

}  // namespace sluice::ws
