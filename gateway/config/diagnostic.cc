#include "config/diagnostic.h"

#include <algorithm>
#include <tuple>

#include "base/field.h"
#include "config/text.h"

namespace sluice::config {
namespace {

constexpr std::size_t shown_before_max = 60;  // characters of a long line before the caret
constexpr std::size_t shown_max = 100;        // characters of a line

// The lines of a text, without their ends.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {
    starts_.push_back(0);
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') starts_.push_back(i + 1);
    }
  }

  // Counted from 1; empty if there is no such line.
  std::string_view line(std::uint32_t number) const {
    if (number == 0 || number > starts_.size()) return {};
    auto line = text_.substr(starts_[number - 1]);
    line = line.substr(0, line.find('\n'));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

 private:
  std::string_view text_;
  std::vector<std::size_t> starts_;
};

bool begins_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
}

std::uint32_t characters(std::string_view text) {
  return static_cast<std::uint32_t>(std::count_if(text.begin(), text.end(), begins_character));
}

// Where the character with this index begins, or the end. Lines may be as long as the file, and
// each of its mistakes asks: whole blocks are counted first.
std::size_t offset_of(std::string_view text, std::size_t index) {
  constexpr std::size_t block_bytes = 4096;
  std::size_t at = 0;
  while (text.size() - at > block_bytes) {
    const std::size_t count = characters(text.substr(at, block_bytes));
    if (count > index) break;
    index -= count;
    at += block_bytes;
  }
  for (; at < text.size(); ++at) {
    if (begins_character(text[at]) && index-- == 0) break;
  }
  return at;
}

// So many characters before `at`, or the beginning.
std::size_t offset_before(std::string_view text, std::size_t at, std::size_t count) {
  while (at > 0 && count > 0) {
    if (begins_character(text[--at])) --count;
  }
  return at;
}

// One view a character. Bytes that are no UTF-8 stick to the character before them.
std::vector<std::string_view> split_characters(std::string_view text) {
  std::vector<std::string_view> all;
  std::size_t begin = 0;
  for (std::size_t i = 1; i <= text.size(); ++i) {
    if (i < text.size() && !begins_character(text[i])) continue;
    all.push_back(text.substr(begin, i - begin));
    begin = i;
  }
  return all;
}

// Terminals give the scripts of East Asia two columns. Their blocks begin at U+1100 and, but for a
// few, lie above U+2E80; everything in between is narrow. Good enough to place a caret.
bool is_wide(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character.front());
  if (lead >= 0xf0) return true;  // emoji and rare ideographs
  const bool hangul = character >= "\xe1\x84\x80" && character <= "\xe1\x85\x9f";
  const bool east_asian = character >= "\xe2\xba\x80" && character <= "\xed\x9e\xa3";
  const bool compatible = character >= "\xef\xa4\x80" && character <= "\xef\xbd\xa0";
  return lead >= 0xe1 && (hangul || east_asian || compatible);
}

std::string printable(std::string_view character) {
  if (character == "\t") return " ";
  if (is_control(character.front()) || invalid_utf8_at(character)) return "?";
  return std::string(character);
}

std::string snippet(std::string_view line, std::uint32_t column) {
  const std::size_t caret = offset_of(line, column > 0 ? column - 1 : 0);
  const std::size_t begin = offset_before(line, caret, shown_before_max);
  const std::size_t end = begin + offset_of(line.substr(begin), shown_max);
  std::string shown = begin > 0 ? "    ..." : "    ";
  std::string below(shown.size(), ' ');
  for (const std::string_view piece : split_characters(line.substr(begin, end - begin))) {
    const auto character = printable(piece);
    shown += character;
    if (piece.data() < line.data() + caret) below += is_wide(character) ? "  " : " ";
  }
  if (end < line.size()) shown += "...";
  return shown + "\n" + below + "^\n";
}

}  // namespace

std::string to_string(const Diagnostic& diagnostic) {
  std::string out = diagnostic.file;
  if (diagnostic.line > 0) {
    out += ":" + std::to_string(diagnostic.line) + ":" + std::to_string(diagnostic.column);
  }
  return out + ": " + diagnostic.message;
}

std::string render(const Diagnostics& diagnostics, std::string_view text) {
  const Lines lines(text);
  std::string out;
  for (const auto& diagnostic : diagnostics) {
    out += to_string(diagnostic) + "\n";
    const auto line = lines.line(diagnostic.line);
    if (diagnostic.line_hidden) {
      out += "    (the line holds a secret)\n";
    } else if (!line.empty()) {
      out += snippet(line, diagnostic.column);
    }
  }
  return out;
}

void Findings::add(Position at, std::string message) {
  if (!full()) findings_.push_back({at, std::move(message)});
  if (full()) {
    findings_.back() = {{}, "there are more mistakes than are listed here"};
  }
}

Diagnostics Findings::diagnostics() const {
  const Lines lines(text_);
  Diagnostics all;
  for (const auto& [at, message] : findings_) {
    const auto before = lines.line(at.line).substr(0, at.column > 0 ? at.column - 1 : 0);
    all.push_back({file_, at.line, at.line > 0 ? characters(before) + 1 : 0, message,
                   hidden_lines_.contains(at.line)});
  }
  const auto key = [](const Diagnostic& d) { return std::tie(d.line, d.column, d.message); };
  std::stable_sort(all.begin(), all.end(),
                   [&](const auto& a, const auto& b) { return key(a) < key(b); });
  const auto same = [&](const auto& a, const auto& b) { return key(a) == key(b); };
  all.erase(std::unique(all.begin(), all.end(), same), all.end());
  return all;
}

}  // namespace sluice::config
