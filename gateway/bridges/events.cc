#include "bridges/events.h"

#include <array>
#include <charconv>
#include <utility>

#include "base/utf8.h"
#include "ws/close_code.h"

namespace sluice::bridges {
namespace {

constexpr std::array<std::pair<EventType, std::string_view>, 7> names = {{
    {EventType::open, "OPEN"},
    {EventType::text, "TEXT"},
    {EventType::binary, "BINARY"},
    {EventType::ping, "PING"},
    {EventType::pong, "PONG"},
    {EventType::close, "CLOSE"},
    {EventType::disconnect, "DISCONNECT"},
}};

// A name and a length.
constexpr std::size_t line_bytes_max = 64;
constexpr std::size_t length_digits_max = 8;

constexpr std::string_view crlf = "\r\n";

std::optional<EventType> type_of(std::string_view name) {
  for (const auto& [type, known] : names) {
    if (known == name) return type;
  }
  return {};
}

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

// At most `bytes_max` bytes, and no part of a character.
std::string_view cut_text(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t size = bytes_max;
  while (size > 0 && (static_cast<std::uint8_t>(text[size]) & 0xC0) == 0x80) --size;
  return text.substr(0, size);
}

}  // namespace

void append_event(const Event& event, std::string& out) {
  out += names[static_cast<std::size_t>(event.type)].second;
  if (!event.content.empty()) {
    std::array<char, 16> digits{};
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), event.content.size(), 16).ptr;
    out += ' ';
    out.append(digits.data(), end);
    out += crlf;
    out += event.content;
  }
  out += crlf;
}

std::optional<Event> EventReader::next() {
  while (!rest_.empty() && !malformed_) {
    const auto line = take_line();
    if (!line) break;
    std::string_view content;
    if (line->length) {
      const auto taken = take_content(*line->length);
      if (!taken) break;
      content = *taken;
    }
    if (const auto type = type_of(line->name)) return Event{*type, content};
  }
  return {};
}

std::optional<EventReader::Line> EventReader::take_line() {
  const std::size_t end = rest_.substr(0, line_bytes_max + crlf.size()).find(crlf);
  malformed_ = end == std::string_view::npos;
  if (malformed_) return {};
  const std::string_view text = rest_.substr(0, end);
  rest_.remove_prefix(end + crlf.size());
  const std::size_t space = text.find(' ');
  Line line{text.substr(0, space), {}};
  if (space != std::string_view::npos) line.length = text.substr(space + 1);
  malformed_ = line.name.empty() || line.name.find_first_of("\r\n") != std::string_view::npos;
  if (malformed_) return {};
  return line;
}

std::optional<std::string_view> EventReader::take_content(std::string_view length) {
  std::size_t size = 0;
  malformed_ = length.empty() || length.size() > length_digits_max || !is_hex(length);
  if (malformed_) return {};
  std::from_chars(length.data(), length.data() + length.size(), size, 16);
  malformed_ = rest_.size() < size + crlf.size() || rest_.substr(size, crlf.size()) != crlf;
  if (malformed_) return {};
  const std::string_view content = rest_.substr(0, size);
  rest_.remove_prefix(size + crlf.size());
  return content;
}

bool is_well_formed(std::string_view body) {
  EventReader reader(body);
  while (reader.next()) {
  }
  return !reader.malformed();
}

CloseContent parse_close(std::string_view content) {
  if (content.size() < 2) return {};
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(content[i]); };
  const auto code = static_cast<std::uint16_t>(byte(0) << 8 | byte(1));
  if (!ws::may_be_on_the_wire(code)) return {};
  const std::string_view reason = content.substr(2);
  if (!is_valid_utf8(as_bytes(reason))) return {code, {}};
  return {code, std::string(cut_text(reason, ws::close_reason_bytes_max))};
}

std::string close_content(std::uint16_t code, std::string_view reason) {
  if (!ws::may_be_on_the_wire(code)) return {};
  std::string content = {static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
  content += cut_text(reason, ws::close_reason_bytes_max);
  return content;
}

}  // namespace sluice::bridges
