#include "base/path_pattern.h"

#include <arpa/inet.h>

#include <algorithm>

#include "base/field.h"
#include "base/percent.h"
#include "base/utf8.h"

namespace sluice {
namespace {

// Requests that carry these are refused before they are routed, so no route can name them.
bool is_never_routed(char c) {
  return is_control(c) || c == '/' || c == '\\';
}

Result<> append_escaped(std::string& out, std::string_view escape) {
  const auto c = escaped_char(escape);
  if (!c) return fail("\"%\" must be followed by two hexadecimal digits; a percent sign is %25");
  if (is_never_routed(*c)) {
    return fail("\"" + std::string(escape.substr(0, 3)) + "\" never reaches a route");
  }
  if (is_unreserved(*c)) {
    out += *c;
  } else {
    append_escape(out, *c);
  }
  return {};
}

Result<> check_character(char c) {
  switch (c) {
    case '{':
    case '}':
      return fail("braces must enclose a whole segment, as in /chat/{room}");
    case '*':
      return fail("\"*\" stands only alone at the end, as in /app/*");
    case '?':
      return fail("\"?\" begins a query, and routes match the path only");
    case '#':
      return fail("\"#\" begins a fragment, which no request carries");
    case '\\':
      return fail("write \"/\" between segments, not \"\\\"");
    default:
      break;
  }
  if (is_control(c)) return fail("control characters are not allowed");
  return {};
}

Result<std::string> normalise_literal(std::string_view segment) {
  std::string out;
  for (std::size_t i = 0; i < segment.size(); ++i) {
    const char c = segment[i];
    if (c == '%') {
      if (auto done = append_escaped(out, segment.substr(i)); !done) {
        return tl::unexpected(done.error());
      }
      i += 2;
      continue;
    }
    if (auto fine = check_character(c); !fine) return tl::unexpected(fine.error());
    if (is_segment_char(c)) {
      out += c;
    } else {
      append_escape(out, c);
    }
  }
  if (!is_valid_utf8(as_bytes(percent_decode(out)))) {
    return fail("escapes that are not UTF-8 never reach a route");
  }
  // RFC 3986 5.2.4: requests lose their dot segments before they are routed.
  const std::string_view name = std::string_view(out).substr(0, out.find(';'));
  if (name == "." || name == "..") return fail("\".\" and \"..\" are not allowed as segments");
  return out;
}

bool is_name(std::string_view text) {
  return !text.empty() && !(text[0] >= '0' && text[0] <= '9') &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_alphanumeric(c) || c == '_'; });
}

Result<PathPattern::Segment> parse_segment(std::string_view text) {
  const bool braces = text.size() >= 2 && text.front() == '{' && text.back() == '}';
  if (!braces) {
    return normalise_literal(text).map([](std::string literal) {
      return PathPattern::Segment{std::move(literal), false};
    });
  }
  const auto name = text.substr(1, text.size() - 2);
  if (!is_name(name)) {
    return fail("a parameter's name is letters, digits and \"_\", and does not begin with a digit");
  }
  return PathPattern::Segment{std::string(name), true};
}

bool names_repeat(const std::vector<PathPattern::Segment>& segments) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    for (std::size_t j = i + 1; j < segments.size(); ++j) {
      if (segments[i].parameter && segments[j].parameter && segments[i].text == segments[j].text) {
        return true;
      }
    }
  }
  return false;
}

Result<> check_whole(const PathPattern& pattern) {
  const auto& segments = pattern.segments;
  if (segments.size() > pattern_segments_max) {
    return fail("more than " + std::to_string(pattern_segments_max) + " segments");
  }
  const auto parameters =
      std::count_if(segments.begin(), segments.end(), [](const auto& s) { return s.parameter; });
  if (static_cast<std::size_t>(parameters) > pattern_parameters_max) {
    return fail("more than " + std::to_string(pattern_parameters_max) + " parameters");
  }
  if (names_repeat(segments)) return fail("two parameters have the same name");
  return {};
}

// An empty segment can only be the last: "/app/" is a path of its own, "//" is none.
Result<> append_segment(PathPattern& pattern, std::string_view text, bool last) {
  if (text.empty() && !last) return fail("\"//\" is not allowed");
  if (last && text == "*") {
    pattern.any_suffix = true;
    return {};
  }
  auto segment = parse_segment(text);
  if (!segment) return tl::unexpected(segment.error());
  pattern.segments.push_back(std::move(*segment));
  return {};
}

bool is_host_label(std::string_view label) {
  return !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
         std::all_of(label.begin(), label.end(),
                     [](char c) { return is_alphanumeric(c) || c == '-' || c == '_'; });
}

bool is_host_name(std::string_view host) {
  if (host.size() > 253) return false;
  while (true) {
    const auto dot = host.find('.');
    if (!is_host_label(host.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    host.remove_prefix(dot + 1);
  }
}

Result<std::string> normalise_ipv6(std::string_view host) {
  in6_addr address{};
  const bool closed = host.size() > 2 && host.back() == ']';
  const std::string inner(closed ? host.substr(1, host.size() - 2) : std::string_view());
  if (!closed || inet_pton(AF_INET6, inner.c_str(), &address) != 1) {
    return fail("not an IPv6 address in brackets");
  }
  return to_lower(host);
}

}  // namespace

std::string PathPattern::shape() const {
  std::string out;
  for (const Segment& segment : segments) {
    out += '/';
    out += segment.parameter ? "{}" : segment.text;  // no literal contains a brace
  }
  if (any_suffix) out += "/*";
  return out;
}

Result<PathPattern> parse_path_pattern(std::string_view pattern) {
  if (pattern.empty() || pattern.front() != '/') return fail("a path begins with \"/\"");
  if (pattern.size() > pattern_bytes_max) {
    return fail("longer than " + std::to_string(pattern_bytes_max) + " bytes");
  }
  PathPattern parsed;
  while (!pattern.empty()) {
    pattern.remove_prefix(1);  // the slash
    const auto slash = pattern.find('/');
    const bool last = slash == std::string_view::npos;
    if (auto done = append_segment(parsed, pattern.substr(0, slash), last); !done) {
      return tl::unexpected(done.error());
    }
    pattern.remove_prefix(last ? pattern.size() : slash);
  }
  if (auto fine = check_whole(parsed); !fine) return tl::unexpected(fine.error());
  return parsed;
}

Result<std::string> normalise_host(std::string_view host) {
  if (host.starts_with('[')) return normalise_ipv6(host);
  if (host.find(':') != std::string_view::npos) {
    return fail("a host has no port and no scheme; an IPv6 address stands in brackets");
  }
  if (host.find('*') != std::string_view::npos) return fail("a host has no wildcards");
  const bool ascii = std::all_of(host.begin(), host.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (!ascii) return fail("write an international name in its ASCII form, \"xn--...\"");
  if (!is_host_name(host)) return fail("not a host name");
  return to_lower(host);
}

}  // namespace sluice
