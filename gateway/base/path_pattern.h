// Path patterns and host names as routes.yaml writes them, in the one form in which they are
// compared. Shared by the configuration, which reports mistakes, and the router, which matches.
//
// A pattern is a list of segments after slashes:
//   /echo           this path and no other ("/echo/" is another path)
//   /chat/{room}    a segment in braces stands for one segment, whatever it says, but not nothing
//   /app/*          everything below the folder: "/app/" and "/app/x/y", but not "/app"
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice {

struct PathPattern {
  struct Segment {
    std::string text;        // a literal in its normal form, or the name of the parameter
    bool parameter = false;  // "{text}"
  };

  std::vector<Segment> segments;  // "/" has one, the empty literal
  bool any_suffix = false;        // ends in "/*"; the star is no segment

  // The same text for two patterns that match the same paths: parameters lose their names.
  std::string shape() const;
};

// Bounds of a pattern, so that matching a path is bounded too.
inline constexpr std::size_t pattern_bytes_max = 1024;
inline constexpr std::size_t pattern_segments_max = 32;
inline constexpr std::size_t pattern_parameters_max = 8;

// Literals may be written decoded ("/聊天") or percent-encoded; both become what RFC 3986 6.2.2
// calls the normal form, which is also the form of a request's path: unreserved characters decoded,
// everything outside of pchar as upper-case percent-encoding.
Result<PathPattern> parse_path_pattern(std::string_view pattern);

// A host as a request's Host field names it, without port, in lower case: a DNS name, an IPv4
// address, or an IPv6 address in brackets.
Result<std::string> normalise_host(std::string_view host);

}  // namespace sluice
