#include "config/text.h"

#include <algorithm>
#include <numeric>

#include "base/field.h"
#include "base/utf8.h"

namespace sluice::config {
namespace {

constexpr std::size_t shown_bytes_max = 80;
constexpr std::size_t compared_bytes_max = 64;  // no key of ours is longer

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

// The longest prefix of at most `size` bytes that ends between characters.
std::string_view cut(std::string_view text, std::size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && is_continuation(text[size])) --size;
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
  if (is_valid_utf8(as_bytes(text))) return std::nullopt;
  Utf8Validator validator;
  std::size_t begin = 0;  // of the character that is not one
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (validator.complete()) begin = i;
    if (!validator.feed(as_bytes(text.substr(i, 1)))) break;
  }
  return begin;
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
