// Paths of requests, and patterns of routes if the first byte is odd.
//
// What must hold: a path that is accepted has one spelling, which is reached at once, and nothing
// in it that two readers could read differently; what is forwarded of a target is read as the same;
// and a pattern that is accepted is one that a request's path can match.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/path_pattern.h"
#include "base/percent.h"
#include "base/utf8.h"
#include "fuzz/input.h"
#include "http/target.h"

namespace {

using namespace sluice;
using fuzz::Input;
using fuzz::require;

std::vector<std::string_view> segments_of(std::string_view path) {
  std::vector<std::string_view> segments;
  while (!path.empty()) {
    path.remove_prefix(1);
    segments.push_back(path.substr(0, path.find('/')));
    path.remove_prefix(segments.back().size());
  }
  return segments;
}

// RFC 3986 2.1, 2.3 and 3.3, written down a second time.
bool is_unreserved_byte(unsigned byte) {
  return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
         (byte >= 'A' && byte <= 'Z') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

int upper_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void check_escape(std::string_view text) {
  require(text.size() >= 3 && upper_hex(text[1]) >= 0 && upper_hex(text[2]) >= 0,
          "escapes are whole and in upper case");
  const unsigned byte = static_cast<unsigned>(upper_hex(text[1]) * 16 + upper_hex(text[2]));
  require(!is_unreserved_byte(byte), "no escape is needless");
  require(byte >= 0x20 && byte != 0x7F, "no control character, %00 among them");
  require(byte != '/' && byte != '\\', "no escaped separator");
}

void check_characters(std::string_view path) {
  constexpr std::string_view others = "!$&'()*+,;=:@/";
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '%') {
      check_escape(path.substr(i));
      i += 2;
      continue;
    }
    require(is_unreserved_byte(static_cast<unsigned char>(path[i])) ||
                others.find(path[i]) != std::string_view::npos,
            "RFC 3986 3.3: characters that a path may have");
  }
  require(is_valid_utf8(as_bytes(percent_decode(path))), "escapes of UTF-8");
}

void check_segments(std::string_view path) {
  require(path.starts_with('/'), "a path begins with a slash");
  const auto segments = segments_of(path);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    require(!segments[i].empty() || i + 1 == segments.size(), "no empty segment but the last");
    const std::string_view name = segments[i].substr(0, segments[i].find(';'));
    require(name != "." && name != "..", "no dot segments");
  }
}

void check_path(std::string_view text) {
  const auto path = http::normalise_path(text);
  if (!path) return require(!path.error().message.empty(), "a refusal has a reason");
  check_characters(*path);
  check_segments(*path);
  require(http::normalise_path(*path) == *path, "a normalised path is a fixed point");
}

void check_target(std::string_view text) {
  const auto target = http::parse_target(text);
  if (!target || target->path == "*") return;
  check_characters(target->path);
  check_segments(target->path);
  for (const char c : target->query) {
    require(c > ' ' && c < 0x7F && c != '#', "a query is printable, without a fragment");
  }
  const std::string again = target->path + (target->query.empty() ? "" : "?" + target->query);
  const auto origin = http::parse_target(again);
  require(origin && origin->path == target->path && origin->query == target->query,
          "what is forwarded is read as the same");
}

// ---- Patterns

void check_literal(const std::string& literal, bool last) {
  require(!literal.empty() || last, "no empty segment but the last");
  if (!literal.empty()) check_segments("/" + literal);
}

void check_pattern(std::string_view text) {
  const auto pattern = parse_path_pattern(text);
  if (!pattern) return require(!pattern.error().message.empty(), "a refusal has a reason");
  require(pattern->segments.size() <= pattern_segments_max, "few segments");
  std::string path;
  for (const PathPattern::Segment& segment : pattern->segments) {
    const bool last = &segment == &pattern->segments.back() && !pattern->any_suffix;
    if (!segment.parameter) check_literal(segment.text, last);
    path += "/" + (segment.parameter ? std::string("x") : segment.text);
  }
  if (pattern->any_suffix) path += "/";
  // Otherwise no request could ever reach the route.
  require(http::normalise_path(path) == path, "a request's path matches it");
  if (path.size() <= pattern_bytes_max) {  // escapes have made it longer
    const auto again = parse_path_pattern(path);
    require(again && again->shape() == path, "which is a pattern in its normal form");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const bool patterns = input.flag();
  const std::string_view text = as_text(input.rest());
  if (patterns) {
    check_pattern(text);
  } else {
    check_path(text);
    check_target(text);
  }
  return 0;
}
