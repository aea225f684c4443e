// Percent-encoding (RFC 3986 2.1), and the characters that need none. A route's pattern and a
// request's path have to agree on both, so both take them from here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

bool is_alphanumeric(char c);  // ASCII
// RFC 3986 2.3: with or without an escape, these mean the same.
bool is_unreserved(char c);
// RFC 3986 3.3: what may stand in a segment of a path as it is (pchar, escapes apart).
bool is_segment_char(char c);

// The character that the escape at the front of `text` stands for; nothing if there is none.
std::optional<char> escaped_char(std::string_view text);
// "%E4": upper-case digits (RFC 3986 6.2.2.1).
void append_escape(std::string& text, char c);

// Decodes %XX. An escape that is none is kept as it stands: for text that was normalised before.
std::string percent_decode(std::string_view text);

}  // namespace sluice
