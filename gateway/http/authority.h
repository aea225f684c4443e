// The authority of a URL: host and port (RFC 3986 3.2), as Host, absolute-form targets and Origin
// carry it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::http {

struct Authority {
  std::string host;  // lower case, without the root's trailing dot; "[::1]" keeps its brackets
  std::optional<std::uint16_t> port;
};

// Nothing if the text is not one host with at most one port. Stricter than RFC 3986: no user
// information, no percent escapes and no sub-delims (internationalised names come as punycode), no
// colon without a port behind it.
std::optional<Authority> parse_authority(std::string_view text);

// The scheme's default port (http 80, https 443), or nothing. The scheme is in lower case.
std::optional<std::uint16_t> default_port(std::string_view scheme);

}  // namespace sluice::http
