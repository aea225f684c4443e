#include "http/target.h"

#include <algorithm>
#include <optional>

#include "base/field.h"
#include "base/percent.h"
#include "base/utf8.h"

namespace sluice::http {
namespace {

// Appends the character that an escape stands for, decoded or escaped anew.
Result<> append_escaped(std::string& path, char c) {
  // An escaped "/" or "\" means a separator to some readers and a character to others.
  if (c == '/' || c == '\\') return fail("the path escapes a slash or a backslash");
  if (is_control(c)) return fail("the path escapes a control character");
  // RFC 3986 6.2.2.2: escapes of unreserved characters are the same as the characters.
  if (is_unreserved(c)) {
    path += c;
  } else {
    append_escape(path, c);
  }
  return {};
}

Result<> append_raw(std::string& path, char c) {
  if (c == '\\') return fail("the path has a backslash");
  if (c == '#') return fail("the target has a fragment");
  if (static_cast<unsigned char>(c) >= 0x80)
    return fail("the target has a byte over 127 that is not escaped");
  if (is_control(c) || c == ' ') return fail("the path has a control character or a space");
  if (is_segment_char(c) || c == '/') {
    path += c;
  } else {
    append_escape(path, c);
  }
  return {};
}

// Every character in its one spelling.
Result<std::string> normalise_characters(std::string_view path) {
  std::string result;
  result.reserve(path.size());
  for (std::size_t i = 0; i < path.size(); ++i) {
    Result<> appended;
    if (path[i] == '%') {
      const std::optional<char> escaped = escaped_char(path.substr(i));
      if (!escaped) return fail("the path has a broken percent escape");
      appended = append_escaped(result, *escaped);
      i += 2;
    } else {
      appended = append_raw(result, path[i]);
    }
    if (!appended) return tl::unexpected(appended.error());
  }
  return result;
}

// "..;x": nothing but a name to us, but some servers strip the parameter first.
bool is_dot_segment_with_parameters(std::string_view segment) {
  return segment.starts_with(".;") || segment.starts_with("..;");
}

// RFC 3986 5.2.4, after "//" became "/".
Result<std::string> resolve_segments(std::string_view path) {
  std::string result;
  bool folder = true;  // the path ends with a slash, or with a dot segment
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    folder = segment.empty() || segment == "." || segment == "..";
    if (is_dot_segment_with_parameters(segment)) return fail("the path has a dot segment with ;");
    if (segment == "..") {
      if (result.empty()) return fail("the path leads above the root");
      result.resize(result.rfind('/'));
    } else if (!folder) {
      result.append("/").append(segment);
    }
  }
  if (folder) result += '/';
  return result;
}

struct AbsoluteForm {
  std::string_view authority;
  std::string_view rest;  // path and query
};

// RFC 9112 3.2.2: absolute-form = absolute-URI.
Result<AbsoluteForm> split_absolute(std::string_view target) {
  const std::size_t colon = target.find("://");
  const std::string scheme = to_lower(target.substr(0, colon));
  if (colon == std::string_view::npos || (scheme != "http" && scheme != "https")) {
    return fail("the target is neither a path nor an http URL");
  }
  const std::string_view hierarchy = target.substr(colon + 3);
  const std::size_t size = std::min(hierarchy.find_first_of("/?#\\"), hierarchy.size());
  if (size == 0) return fail("the target's URL has no host");
  return AbsoluteForm{hierarchy.substr(0, size), hierarchy.substr(size)};
}

Result<> check_query(std::string_view query) {
  for (const char c : query) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '#') return fail("the target has a fragment");
    if (byte <= 0x20 || byte >= 0x7f) return fail("the query has a character that is not allowed");
  }
  return {};
}

}  // namespace

Result<std::string> normalise_path(std::string_view path) {
  if (!path.starts_with('/')) return fail("the path does not begin with a slash");
  Result<std::string> characters = normalise_characters(path);
  if (!characters) return characters;
  if (!is_valid_utf8(as_bytes(percent_decode(*characters)))) {
    return fail("the path's escapes are not UTF-8");
  }
  return resolve_segments(*characters);
}

Result<Target> parse_target(std::string_view target) {
  Target result;
  // RFC 9112 3.2.4: the asterisk-form.
  if (target == "*") {
    result.path = "*";
    return result;
  }
  if (!target.starts_with('/')) {
    const Result<AbsoluteForm> absolute = split_absolute(target);
    if (!absolute) return tl::unexpected(absolute.error());
    result.authority = absolute->authority;
    target = absolute->rest;
  }
  const std::size_t question = std::min(target.find('?'), target.size());
  if (question < target.size()) result.query = target.substr(question + 1);
  if (const Result<> query = check_query(result.query); !query) {
    return tl::unexpected(query.error());
  }
  // RFC 9110 4.2.3: an empty path is the same as "/".
  const Result<std::string> path = normalise_path(question == 0 ? "/" : target.substr(0, question));
  if (!path) return tl::unexpected(path.error());
  result.path = *path;
  return result;
}

}  // namespace sluice::http
