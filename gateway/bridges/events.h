// The body of application/websocket-events: what happened on a WebSocket, as text that an HTTP
// request or response carries (shared/websocket-over-http.md 2a). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace sluice::bridges {

inline constexpr std::string_view events_content_type = "application/websocket-events";

enum class EventType : std::uint8_t { open, text, binary, ping, pong, close, disconnect };

struct Event {
  EventType type;
  std::string_view content;
};

// "OPEN CRLF", or "TEXT SP 2 CRLF hi CRLF".
void append_event(const Event& event, std::string& out);

// Takes a body apart. Lengths are one to eight hexadecimal digits and nothing else; lines end with
// CRLF. An event without content may say so with a length of 0. Events of other types, in upper
// case or not, are passed over.
class EventReader {
 public:
  // `body` outlives the reader and its events.
  explicit EventReader(std::string_view body) : rest_(body) {}

  // Nothing at the end, or when what follows is malformed.
  std::optional<Event> next();
  bool malformed() const { return malformed_; }

 private:
  struct Line {
    std::string_view name;
    std::optional<std::string_view> length;
  };
  std::optional<Line> take_line();
  std::optional<std::string_view> take_content(std::string_view length);

  std::string_view rest_;
  bool malformed_ = false;
};

// Whether all of it can be read.
bool is_well_formed(std::string_view body);

// The content of a CLOSE event, which is that of a Close frame.
struct CloseContent {
  std::optional<std::uint16_t> code;
  std::string reason;  // at most 123 bytes of UTF-8
};

// Reads what backends write: a code alone, or nothing. A code that no endpoint may send (0 among
// them) counts as none; what is no UTF-8 counts as no reason, and a long one is cut.
CloseContent parse_close(std::string_view content);
// Empty without a code that may be sent.
std::string close_content(std::uint16_t code, std::string_view reason);

}  // namespace sluice::bridges
