#include "frames.h"

#include <cstring>

namespace load {

std::mt19937 random_bits(42);

void append_header(Buffer& out, std::uint8_t first, std::size_t size, bool masked) {
  const std::uint8_t mask_bit = masked ? 0x80 : 0;
  out.push_back(first);
  if (size < 126) {
    out.push_back(static_cast<std::uint8_t>(mask_bit | size));
    return;
  }
  const int length_bytes = size < 65536 ? 2 : 8;
  out.push_back(static_cast<std::uint8_t>(mask_bit | (length_bytes == 2 ? 126 : 127)));
  for (int i = length_bytes - 1; i >= 0; --i) {
    out.push_back(static_cast<std::uint8_t>(size >> (8 * i)));
  }
}

void append_masked(Buffer& out, std::string_view payload) {
  const std::uint32_t key = static_cast<std::uint32_t>(random_bits());
  std::uint8_t mask[4];
  std::memcpy(mask, &key, sizeof mask);
  out.insert(out.end(), mask, mask + 4);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    out.push_back(static_cast<std::uint8_t>(static_cast<std::uint8_t>(payload[i]) ^ mask[i % 4]));
  }
}

std::string make_upgrade(const Options& options) {
  return "GET " + options.path + " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(options.port) +
         "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" +
         // As browsers offer it.
         (options.deflate
              ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
              : "") +
         "\r\n";
}

namespace {

// What is measured depends on what was agreed to.
bool agrees(const Options& options, const std::string& head) {
  const std::string parameters = options.agreed.empty() ? "" : "; " + options.agreed;
  return head.find("Sec-WebSocket-Extensions: permessage-deflate" + parameters + "\r\n") !=
         std::string::npos;
}

}  // namespace

std::string refused_upgrade(const Options& options, const std::string& head) {
  // RFC 6455 1.3: what that key has to be answered with.
  constexpr std::string_view accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
  if (head.starts_with("HTTP/1.1 101 ") && head.find(accept) != std::string::npos &&
      (!options.deflate || agrees(options, head))) {
    return "";
  }
  if (head.starts_with("HTTP/1.1 101 ")) return head;
  return head.substr(0, head.find('\r'));
}

}  // namespace load
