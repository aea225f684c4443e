// Close frames, both ways and in either role.
//
//   byte 0   bit 0 our role, bit 1 we send; the rest cuts what arrives
//   sending: two bytes of a code, then the reason, as a bridge or a plugin might say them
//   receiving: the payload of the peer's Close frame
//
// What must hold: a frame of ours has a code that may be on the wire or no body, and a reason of
// UTF-8 that is as much as fits of the one that was given; what arrives is told once and is what
// RFC 6455 says of it, however the bytes are cut, and its answer is a frame of ours as well.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/input.h"
#include "ws/close_code.h"
#include "ws/protocol.h"

namespace {

using namespace sluice;
using fuzz::Input;
using fuzz::require;
using ws::Event;
using ws::Protocol;
using ws::Role;

const ws::ProtocolLimits limits;

// ---- What RFC 6455 and RFC 3629 say, written down a second time

bool is_legal(unsigned code) {
  if (code < 1000 || code > 4999 || (code >= 1015 && code < 3000)) return false;
  return code != 1004 && code != 1005 && code != 1006;
}

// The size of the character at the front; 0 if it is none.
std::size_t character_size(Bytes text) {
  const unsigned lead = text[0];
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC0 || lead > 0xF7 || text.size() < size) return 0;
  std::uint32_t point = lead & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((text[i] & 0xC0U) != 0x80) return 0;
    point = point << 6 | (text[i] & 0x3FU);
  }
  constexpr std::uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
  return point < smallest[size] || surrogate || point > 0x10FFFF ? 0 : size;
}

bool is_utf8(Bytes text) {
  while (!text.empty()) {
    const std::size_t size = character_size(text);
    if (size == 0) return false;
    text = text.subspan(size);
  }
  return true;
}

// Of a valid text, the characters that fit into `bytes_max`.
Bytes cut(Bytes text, std::size_t bytes_max) {
  std::size_t size = 0;
  while (size < text.size() && size + character_size(text.subspan(size)) <= bytes_max) {
    size += character_size(text.subspan(size));
  }
  return text.first(size);
}

// ---- Frames, taken apart and made by hand

struct CloseBody {
  std::optional<unsigned> code;
  std::string reason;
};

std::string unmasked(std::string_view payload, std::string_view mask) {
  std::string text(payload);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(text[i] ^ mask[i % 4]);
  return text;
}

// `sent` is one Close frame of ours, and nothing else.
CloseBody read_frame(Role role, const std::string& sent) {
  const bool masked = role == Role::client;
  const std::size_t header = masked ? 6 : 2;
  require(sent.size() >= header && static_cast<unsigned char>(sent[0]) == 0x88, "a Close frame");
  const unsigned size = static_cast<unsigned char>(sent[1]);
  require((size & 0x80U) == (masked ? 0x80U : 0U), "masked by clients, and by nobody else");
  require((size & 0x7FU) <= 125 && sent.size() == header + (size & 0x7FU), "nothing but the frame");
  const std::string_view all(sent);
  const std::string body =
      masked ? unmasked(all.substr(header), all.substr(2, 4)) : sent.substr(header);
  if (body.empty()) return {};
  require(body.size() >= 2, "a code is two bytes");
  const Bytes bytes = as_bytes(body);
  return {static_cast<unsigned>(bytes[0]) << 8 | bytes[1], body.substr(2)};
}

std::vector<std::uint8_t> peers_frame(Role role, Bytes payload) {
  std::vector<std::uint8_t> frame = {0x88};
  const unsigned masked = role == Role::server ? 0x80U : 0U;
  if (payload.size() <= 125) {
    frame.push_back(static_cast<std::uint8_t>(masked | payload.size()));
  } else {
    frame.push_back(static_cast<std::uint8_t>(masked | 126U));
    frame.push_back(static_cast<std::uint8_t>(payload.size() >> 8));
    frame.push_back(static_cast<std::uint8_t>(payload.size()));
  }
  constexpr std::uint8_t mask[] = {0x37, 0xfa, 0x21, 0x3d};
  if (masked != 0) frame.insert(frame.end(), mask, mask + 4);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    const unsigned key = masked != 0 ? mask[i % 4] : 0;
    frame.push_back(static_cast<std::uint8_t>(payload[i] ^ key));
  }
  return frame;
}

// ---- What we send

std::string sent_close(Protocol& protocol, unsigned code, std::string_view reason) {
  ChunkPool pool;
  ByteQueue queue(pool);
  protocol.send_close(static_cast<std::uint16_t>(code), reason, queue);
  require(protocol.close_sent(), "a Close frame was sent");
  const std::string sent = queue.to_string();
  protocol.send_close(1000, "again", queue);
  protocol.send_message(MessageType::text, as_bytes("late"), queue);
  require(queue.to_string() == sent, "RFC 6455 5.5.1: nothing follows a Close frame");
  return sent;
}

void check_sent(Role role, unsigned code, Bytes reason) {
  Protocol protocol(role, limits);
  const CloseBody body = read_frame(role, sent_close(protocol, code, as_text(reason)));
  if (!is_legal(code)) return require(!body.code, "RFC 6455 7.4: no code that may not be sent");
  require(body.code == code, "the code that was given");
  const std::string_view fits =
      is_utf8(reason) ? as_text(cut(reason, ws::close_reason_bytes_max)) : std::string_view();
  require(body.reason == fits, "as many characters of the reason as fit");
}

// ---- What we receive

struct Told {
  int events = 0;
  Event::Type type = Event::Type::data;
  unsigned code = 0;
  std::string reason;
  bool operator==(const Told&) const = default;
};

Told receive(Protocol& protocol, Bytes frame, std::size_t piece_max) {
  Told told;
  while (!frame.empty()) {
    const std::size_t size = std::min<std::size_t>(1 + frame.front() % piece_max, frame.size());
    const auto memory = std::make_unique<std::uint8_t[]>(size);
    std::copy_n(frame.begin(), size, memory.get());
    frame = frame.subspan(size);
    protocol.receive({memory.get(), size});
    while (const auto event = protocol.next_event()) {
      told = {told.events + 1, event->type, event->close_code,
              std::string(as_text(event->payload))};
    }
  }
  return told;
}

// RFC 6455 5.5.1 and 7.1.5 to 7.1.7.
unsigned code_expected(Bytes payload) {
  if (payload.empty()) return ws::no_status;
  if (payload.size() == 1 || payload.size() > 125) return ws::protocol_error;
  const unsigned code = static_cast<unsigned>(payload[0]) << 8 | payload[1];
  if (!is_legal(code)) return ws::protocol_error;
  if (!is_utf8(payload.subspan(2))) return ws::invalid_payload;
  return code;
}

bool is_broken(Bytes payload) {
  if (payload.empty()) return false;
  if (payload.size() == 1 || payload.size() > 125) return true;
  return !is_legal(static_cast<unsigned>(payload[0]) << 8 | payload[1]) ||
         !is_utf8(payload.subspan(2));
}

void check_received(Role role, Bytes payload, std::size_t piece_max) {
  std::vector<std::uint8_t> frame = peers_frame(role, payload);
  const auto again = frame;
  frame.insert(frame.end(), again.begin(), again.end());
  Protocol protocol(role, limits);
  const Told told = receive(protocol, frame, piece_max);
  Protocol bytewise(role, limits);
  require(receive(bytewise, frame, 1) == told, "one event, however the bytes are cut");
  require(told.events == 1, "nothing follows a close or a failure");
  require(!protocol.receiving(), "nothing is awaited behind it");
  const bool broken = is_broken(payload);
  require(told.type == (broken ? Event::Type::failure : Event::Type::close),
          "a close, or a failure");
  require(told.code == code_expected(payload), "the code of RFC 6455 7");
  require(is_utf8(as_bytes(told.reason)) && told.reason.size() <= ws::close_reason_bytes_max,
          "a reason is UTF-8 and short");
  if (!broken && payload.size() > 2) {
    require(told.reason == as_text(payload.subspan(2)), "the reason that the peer gave");
  }
  const CloseBody answer = read_frame(role, sent_close(protocol, told.code, told.reason));
  require(answer.code == (told.code == ws::no_status ? std::nullopt : std::optional(told.code)),
          "the answer has the code");
  require(answer.reason == told.reason, "the answer has the reason");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const unsigned first = input.byte();
  const Role role = (first & 1U) == 0 ? Role::server : Role::client;
  if ((first & 2U) != 0) {
    const unsigned code = input.u16();
    check_sent(role, code, input.rest());
  } else {
    check_received(role, input.take(0xFFFF), 1 + (first >> 2));
  }
  return 0;
}
