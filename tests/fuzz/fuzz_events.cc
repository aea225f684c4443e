// Bodies of application/websocket-events, as a backend answers them. The first byte says how the
// others are taken: 0 a body, 1 events to be written, 2 the content of a CLOSE event.
//
// What must hold: a body is read as a second reader, written from the specification, reads it; what
// is written is read again as the same; a close that is read may be sent.
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "bridges/events.h"
#include "fuzz/input.h"
#include "ws/close_code.h"

namespace {

using namespace sluice;
using bridges::Event;
using bridges::EventReader;
using bridges::EventType;
using fuzz::Input;
using fuzz::require;

constexpr std::array<std::string_view, 7> names = {"OPEN", "TEXT",  "BINARY",    "PING",
                                                   "PONG", "CLOSE", "DISCONNECT"};

struct Reading {
  std::vector<std::pair<std::size_t, std::string>> events;
  bool well_formed = false;
  bool operator==(const Reading&) const = default;
};

// ---- The second reader

std::optional<std::size_t> length_of(std::string_view digits) {
  std::size_t length = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), length, 16);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  if (!whole || digits.size() > 8 || digits.front() == '-') return std::nullopt;
  return length;
}

// Takes one event off the front; false if it is malformed.
bool take_event(std::string_view& body, Reading& reading) {
  const std::size_t end = body.find("\r\n");
  if (end == std::string_view::npos || end > 64) return false;
  const std::string_view line = body.substr(0, end);
  body.remove_prefix(end + 2);
  const std::size_t space = line.find(' ');
  const std::string_view name = line.substr(0, space);
  if (name.empty() || name.find('\r') != name.npos || name.find('\n') != name.npos) return false;
  std::string content;
  if (space != std::string_view::npos) {
    const auto length = length_of(line.substr(space + 1));
    if (!length || body.size() < *length + 2 || body.substr(*length, 2) != "\r\n") return false;
    content = body.substr(0, *length);
    body.remove_prefix(*length + 2);
  }
  for (std::size_t type = 0; type < names.size(); ++type) {
    if (names[type] == name) reading.events.emplace_back(type, content);
  }
  return true;
}

Reading read_again(std::string_view body) {
  Reading reading{{}, true};
  while (!body.empty() && reading.well_formed) reading.well_formed = take_event(body, reading);
  return reading;
}

// ----

Reading read(std::string_view body) {
  Reading reading;
  EventReader reader(body);
  const char* last = body.data();
  while (const auto event = reader.next()) {
    if (!event->content.empty()) {
      require(event->content.data() >= last &&
                  event->content.data() + event->content.size() <= body.data() + body.size(),
              "contents are in the body, one behind the other");
      last = event->content.data() + event->content.size();
    }
    reading.events.emplace_back(static_cast<std::size_t>(event->type), event->content);
  }
  reading.well_formed = !reader.malformed();
  require(reading.well_formed == bridges::is_well_formed(body),
          "both say whether it is well-formed");
  require(!reader.next() && reader.malformed() != reading.well_formed, "the end stays the end");
  return reading;
}

std::string write(const Reading& reading) {
  std::string body;
  for (const auto& [type, content] : reading.events) {
    bridges::append_event({static_cast<EventType>(type), content}, body);
  }
  return body;
}

void check_body(std::string_view body) {
  Reading reading = read(body);
  require(reading == read_again(body), "as the specification has it");
  reading.well_formed = true;
  require(read(write(reading)) == reading, "what was read can be written and read again");
}

void check_events(Input& input) {
  Reading reading{{}, true};
  while (!input.empty()) {
    const std::size_t type = input.byte() % names.size();
    reading.events.emplace_back(type, as_text(input.take(input.byte())));
  }
  require(read(write(reading)) == reading, "what is written is read as the same");
}

void check_close(std::string_view content) {
  const bridges::CloseContent close = bridges::parse_close(content);
  require(!close.code || ws::may_be_on_the_wire(*close.code), "a code that may be sent");
  require(close.code || close.reason.empty(), "no reason without a code");
  require(
      close.reason.size() <= ws::close_reason_bytes_max && is_valid_utf8(as_bytes(close.reason)),
      "a reason that may be sent");
  const std::string again = bridges::close_content(close.code.value_or(0), close.reason);
  require(close.code.has_value() != again.empty(), "a content where there is a code");
  const bridges::CloseContent same = bridges::parse_close(again);
  require(same.code == close.code && same.reason == close.reason, "the same close again");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  switch (input.byte() % 3) {
    case 0:
      check_body(as_text(input.rest()));
      break;
    case 1:
      check_events(input);
      break;
    default:
      check_close(as_text(input.rest()));
  }
  return 0;
}
