// What header fields are made of: tokens, lists and values (RFC 9110 5.5 and 5.6).
//
// All of it is pure and takes linear time. Views point into the argument.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// RFC 9110 5.6.2: tchar, the characters of a token.
bool is_token_char(char c);
// A token has at least one character.
bool is_token(std::string_view text);

bool is_control(char c);  // below U+0020, or U+007F

// RFC 9110 5.5: a field's value holds no control character but the tab. Bytes over 127 may stand.
bool is_field_value(std::string_view text);

// Without leading and trailing spaces and tabs (OWS, RFC 9110 5.6.3).
std::string_view trim(std::string_view text);

// ASCII only: locales have no say in protocols.
std::string to_lower(std::string_view text);
bool equals_ignoring_case(std::string_view a, std::string_view b);

// The elements of a comma-separated list, trimmed; empty ones are left out (RFC 9110 5.6.1.2).
// Knows no quoted strings: for lists of tokens, and of entity tags without commas.
std::vector<std::string_view> split_list(std::string_view list);

}  // namespace sluice
