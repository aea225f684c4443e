// The type of a message, shared by the protocol (ws/) and by what a bridge sees (websocket.h).
#pragma once

#include <cstdint>

namespace sluice {

// RFC 6455 5.6. The values are the opcodes of RFC 6455 5.2.
enum class MessageType : std::uint8_t { text = 1, binary = 2 };

}  // namespace sluice
