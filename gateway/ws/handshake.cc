#include "ws/handshake.h"

#include <algorithm>

#include "base/crypto.h"

namespace sluice::ws {

std::string accept_key(std::string_view key) {
  // RFC 6455 1.3: the key, without any change, followed by this GUID.
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  return base64(sha1(as_bytes(text)));
}

std::optional<std::string_view> select_protocol(const std::vector<std::string>& offered,
                                                const std::vector<std::string>& supported) {
  for (const std::string& protocol : supported) {
    if (std::find(offered.begin(), offered.end(), protocol) != offered.end()) return protocol;
  }
  return std::nullopt;
}

}  // namespace sluice::ws
