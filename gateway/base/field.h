// What header fields are made of: tokens, lists and values (RFC 9110 5.5 and 5.6).
//
// All of it is pure and takes linear time. Views point into the argument.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// RFC 9110 5.6.2: tchar, the characters of a token. A table, since each byte of a field's name is
// asked about several times on its way through the gateway.
inline constexpr auto token_chars = [] {
  std::array<bool, 256> table{};
  for (const char c : std::string_view("!#$%&'*+-.^_`|~0123456789"
                                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                       "abcdefghijklmnopqrstuvwxyz")) {
    table[static_cast<unsigned char>(c)] = true;
  }
  return table;
}();
inline bool is_token_char(char c) {
  return token_chars[static_cast<unsigned char>(c)];
}
// A token has at least one character.
bool is_token(std::string_view text);

// Below U+0020, or U+007F.
inline bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// RFC 9110 5.5: a field's value holds no control character but the tab. Bytes over 127 may stand.
bool is_field_value(std::string_view text);

// Without leading and trailing spaces and tabs (OWS, RFC 9110 5.6.3).
std::string_view trim(std::string_view text);

// ASCII only: locales have no say in protocols.
constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}
std::string to_lower(std::string_view text);
inline bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return to_lower(x) == to_lower(y); });
}

// The elements of a comma-separated list, trimmed; empty ones are left out (RFC 9110 5.6.1.2).
// Knows no quoted strings: for lists of tokens, and of entity tags without commas.
std::vector<std::string_view> split_list(std::string_view list);

}  // namespace sluice
