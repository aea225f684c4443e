// The parts of the opening handshake (RFC 6455 section 4) that are not HTTP. Pure functions, linear
// in the size of their input whatever it contains.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::ws {

// The value of Sec-WebSocket-Accept that answers a key (RFC 6455 4.2.2, item 5.4).
std::string accept_key(std::string_view key);

// The first of `supported` that was offered: the server's order of preference decides. Compared
// exactly. The result is a view of an element of `supported`; nothing if they have none in common.
std::optional<std::string_view> select_protocol(const std::vector<std::string>& offered,
                                                const std::vector<std::string>& supported);

}  // namespace sluice::ws
