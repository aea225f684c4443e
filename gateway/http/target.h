// The target of a request: parsed, and its path normalised once (RFC 9112 3.2, RFC 3986 6.2.2).
//
// What is matched, logged and forwarded is the same string, so that no two of them can be made to
// disagree. Whatever has two readings is refused.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::http {

struct Target {
  std::string path;       // normalised; "*" for the asterisk-form
  std::string query;      // as sent, without "?"
  std::string authority;  // as sent; only of the absolute-form
};

// Reads the origin-form, the absolute-form with http or https (RFC 9112 3.2.1, 3.2.2), and "*".
// The error is a sentence for the client; the status is 400.
Result<Target> parse_target(std::string_view target);

// Normalises a path that begins with "/":
// - escapes of unreserved characters are decoded, others get upper-case digits;
// - "//" becomes "/", then "." and ".." are resolved;
// - what RFC 3986 does not allow in a path (such as "|") is escaped.
// Refused: %00, %2F, %5C, raw "\" and "#", bytes over 127 that are not escaped, broken escapes,
// escapes of invalid UTF-8 or of control characters, ".." above the root, and dot segments with
// parameters ("..;x"), which some servers take for "..". The result is a fixed point.
Result<std::string> normalise_path(std::string_view path);

}  // namespace sluice::http
