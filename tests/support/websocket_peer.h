// WebSocketPeer: the client's end of a WebSocket, for tests: makes frames, and says in short lines
// which frames it was sent.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_queue.h"
#include "ws/protocol.h"

namespace sluice::test {

// 'Hello', '\x01' for what cannot be printed, '(70000 bytes)' for what is long.
inline std::string shown(Bytes bytes) {
  if (bytes.size() > 60) return "(" + std::to_string(bytes.size()) + " bytes)";
  std::string text = "'";
  for (const std::uint8_t byte : bytes) {
    char hex[5];
    std::snprintf(hex, sizeof hex, "\\x%02x", byte);
    text += byte >= 0x20 && byte < 0x7f ? std::string(1, static_cast<char>(byte)) : hex;
  }
  return text + "'";
}

inline std::string shown(MessageType type, Bytes payload) {
  return (type == MessageType::text ? "text " : "binary ") + shown(payload);
}

class WebSocketPeer {
 public:
  // ---- Frames to send, masked.
  std::string text(std::string_view payload) { return message(MessageType::text, payload); }
  std::string binary(std::string_view payload) { return message(MessageType::binary, payload); }
  std::string fragment(std::string_view payload, bool first, bool last) {
    return bytes([&](ByteQueue& out) {
      protocol_.send_fragment(MessageType::text, as_bytes(payload), first, last, out);
    });
  }
  std::string ping(std::string_view payload = {}) {
    return bytes([&](ByteQueue& out) { protocol_.send_ping(as_bytes(payload), out); });
  }
  std::string pong(std::string_view payload) {
    return bytes([&](ByteQueue& out) { protocol_.send_pong(as_bytes(payload), out); });
  }
  std::string close(std::uint16_t code, std::string_view reason = {}) {
    return bytes([&](ByteQueue& out) { protocol_.send_close(code, reason, out); });
  }

  // The frames in `bytes`, which follow the ones of earlier calls: "text 'Hello'; close 1000 ''".
  std::string read(std::string bytes) {
    std::string lines;
    const auto line = [&](const std::string& text) {
      if (!lines.empty()) lines += "; ";
      lines += text;
    };
    protocol_.receive({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    while (const auto event = protocol_.next_event()) {
      switch (event->type) {
        case ws::Event::Type::data:
          gathered_ += as_text(event->payload);
          if (!event->message_end) break;
          line(shown(event->message_type, as_bytes(gathered_)));
          gathered_.clear();
          break;
        case ws::Event::Type::ping:
          last_ping = as_text(event->payload);
          line("ping");
          break;
        case ws::Event::Type::pong:
          line("pong " + shown(event->payload));
          break;
        case ws::Event::Type::close:
          line("close " + std::to_string(event->close_code) + " " + shown(event->payload));
          break;
        case ws::Event::Type::failure:
          line("BROKEN " + std::string(as_text(event->payload)));
          break;
      }
    }
    return lines;
  }

  std::string last_ping;  // its payload

 private:
  template <typename Write>
  std::string bytes(Write write) {
    ByteQueue queue(pool_);
    write(queue);
    return queue.to_string();
  }
  std::string message(MessageType type, std::string_view payload) {
    return bytes([&](ByteQueue& out) { protocol_.send_message(type, as_bytes(payload), out); });
  }

  ChunkPool pool_;
  ws::ProtocolLimits limits_;
  ws::Protocol protocol_{ws::Role::client, limits_};
  std::string gathered_;
};

}  // namespace sluice::test
