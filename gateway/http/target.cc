#include "http/target.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/field.h"

namespace sluice::http {

namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The byte that the escape at text[at] stands for; nothing if it is no escape.
std::optional<unsigned char> escaped_byte(std::string_view text, std::size_t at) {
  if (at + 2 >= text.size()) return std::nullopt;
  const int high = hex_value(text[at + 1]);
  const int low = hex_value(text[at + 2]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

void append_escape(std::string& text, unsigned char byte) {
  constexpr char digits[] = "0123456789ABCDEF";
  text += {'%', digits[byte >> 4], digits[byte & 15]};
}

bool is_control(unsigned char byte) {
  return byte < 0x20 || byte == 0x7f;
}

bool is_alphanumeric(unsigned char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9');
}

// RFC 3986 2.3.
bool is_unreserved(unsigned char byte) {
  return is_alphanumeric(byte) || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

// RFC 3986 3.3: pchar, percent escapes apart.
bool is_path_char(unsigned char byte) {
  return is_unreserved(byte) ||
         (byte != 0 && std::string_view("!$&'()*+,;=:@").find(static_cast<char>(byte)) !=
                           std::string_view::npos);
}

// How many bytes follow the lead byte of a UTF-8 sequence, and what the second may be (RFC 3629 4).
struct Utf8Tail {
  int size;
  unsigned char second_min;
  unsigned char second_max;
};

std::optional<Utf8Tail> utf8_tail(unsigned char lead) {
  if (lead < 0x80) return Utf8Tail{0, 0, 0};
  if (lead >= 0xc2 && lead <= 0xdf) return Utf8Tail{1, 0x80, 0xbf};
  if (lead == 0xe0) return Utf8Tail{2, 0xa0, 0xbf};  // shorter ones are overlong
  if (lead == 0xed) return Utf8Tail{2, 0x80, 0x9f};  // above are the surrogates
  if (lead >= 0xe1 && lead <= 0xef) return Utf8Tail{2, 0x80, 0xbf};
  if (lead == 0xf0) return Utf8Tail{3, 0x90, 0xbf};
  if (lead == 0xf4) return Utf8Tail{3, 0x80, 0x8f};  // above U+10FFFF there is nothing
  if (lead >= 0xf1 && lead <= 0xf3) return Utf8Tail{3, 0x80, 0xbf};
  return std::nullopt;
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::optional<Utf8Tail> tail = utf8_tail(static_cast<unsigned char>(text[i]));
    if (!tail) return false;
    unsigned char min = tail->second_min;
    unsigned char max = tail->second_max;
    for (int n = 0; n < tail->size; ++n) {
      if (++i == text.size()) return false;
      const auto byte = static_cast<unsigned char>(text[i]);
      if (byte < min || byte > max) return false;
      min = 0x80;
      max = 0xbf;
    }
  }
  return true;
}

// Appends the byte that an escape stands for, decoded or escaped anew.
Result<> append_escaped(std::string& path, unsigned char byte) {
  // An escaped "/" or "\" means a separator to some readers and a character to others.
  if (byte == '/' || byte == '\\') return fail("the path escapes a slash or a backslash");
  if (is_control(byte)) return fail("the path escapes a control character");
  // RFC 3986 6.2.2.2: escapes of unreserved characters are the same as the characters.
  if (is_unreserved(byte)) {
    path += static_cast<char>(byte);
  } else {
    append_escape(path, byte);  // RFC 3986 6.2.2.1: upper-case digits
  }
  return {};
}

Result<> append_raw(std::string& path, unsigned char byte) {
  if (byte == '\\') return fail("the path has a backslash");
  if (byte == '#') return fail("the target has a fragment");
  if (byte >= 0x80) return fail("the target has a byte over 127 that is not escaped");
  if (is_control(byte) || byte == ' ') return fail("the path has a control character or a space");
  if (is_path_char(byte) || byte == '/') {
    path += static_cast<char>(byte);
  } else {
    append_escape(path, byte);
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
      const std::optional<unsigned char> byte = escaped_byte(path, i);
      if (!byte) return fail("the path has a broken percent escape");
      appended = append_escaped(result, *byte);
      i += 2;
    } else {
      appended = append_raw(result, static_cast<unsigned char>(path[i]));
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
  if (!is_utf8(percent_decode(*characters))) return fail("the path's escapes are not UTF-8");
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
  if (const Result<> query = check_query(result.query); !query)
    return tl::unexpected(query.error());
  // RFC 9110 4.2.3: an empty path is the same as "/".
  const Result<std::string> path = normalise_path(question == 0 ? "/" : target.substr(0, question));
  if (!path) return tl::unexpected(path.error());
  result.path = *path;
  return result;
}

std::string percent_decode(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::optional<unsigned char> byte = text[i] == '%' ? escaped_byte(text, i) : std::nullopt;
    result += byte ? static_cast<char>(*byte) : text[i];
    if (byte) i += 2;
  }
  return result;
}

}  // namespace sluice::http
