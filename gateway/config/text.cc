#include "config/text.h"

#include <algorithm>
#include <numeric>

namespace sluice::config {
namespace {

constexpr std::size_t shown_bytes_max = 80;
constexpr std::size_t compared_bytes_max = 64;  // no key of ours is longer

unsigned char byte_at(std::string_view text, std::size_t i) {
  return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
}

bool is_continuation(unsigned char byte) {
  return (byte & 0xc0) == 0x80;
}

// The length of the well-formed sequence at text[i], or 0 (RFC 3629 4).
std::size_t sequence_size(std::string_view text, std::size_t i) {
  const unsigned char lead = byte_at(text, i);
  const unsigned char second = byte_at(text, i + 1);
  if (lead < 0x80) return 1;
  if (!is_continuation(second)) return 0;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (!is_continuation(byte_at(text, i + 2))) return 0;
  const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
  const bool surrogate = lead == 0xed && second >= 0xa0;
  const bool too_large = lead == 0xf4 && second >= 0x90;
  if (overlong || surrogate || too_large) return 0;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (!is_continuation(byte_at(text, i + 3))) return 0;
  return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

// The longest prefix of at most `size` bytes that ends between characters.
std::string_view cut(std::string_view text, std::size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && is_continuation(byte_at(text, size))) --size;
  return text.substr(0, size);
}

void append_escaped(std::string& out, char c) {
  static constexpr char digits[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  out += "\\x";
  out += digits[byte >> 4];
  out += digits[byte & 15];
}

// How many characters must be inserted, removed, replaced or swapped with their neighbour.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> above(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, above[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

}  // namespace

std::optional<std::size_t> invalid_utf8_at(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t size = sequence_size(text, i);
    if (size == 0) return i;
    i += size;
  }
  return std::nullopt;
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), is_control);
}

std::string in_quotes(std::string_view text) {
  const auto shown = cut(text, shown_bytes_max);
  std::string out = "\"";
  for (const char c : shown) {
    if (is_control(c)) {
      append_escaped(out, c);
    } else {
      out += c;
    }
  }
  out += shown.size() < text.size() ? "...\"" : "\"";
  return out;
}

std::string alternatives(const std::vector<std::string_view>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
    out += in_quotes(words[i]);
  }
  return out;
}

std::optional<std::string_view> nearest(std::string_view mistyped,
                                        const std::vector<std::string_view>& words) {
  if (mistyped.size() > compared_bytes_max) return std::nullopt;
  // A third of the word may be wrong: "timout" is near "timeouts", "tls" is not near "log".
  std::size_t best = std::max<std::size_t>(1, mistyped.size() / 3) + 1;
  std::optional<std::string_view> found;
  for (const auto word : words) {
    const auto distance = edit_distance(mistyped, word);
    if (distance >= best) continue;
    best = distance;
    found = word;
  }
  return found;
}

}  // namespace sluice::config
