#include "bridges/token_file.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

namespace sluice::bridges {
namespace {

constexpr std::string_view blanks = " \t\r\v\f";

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

bool has_control_character(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7F) return true;
  }
  return false;
}

bool is_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port != 0;
}

// "host:port" is cut at its last colon, so that an IPv6 address needs no brackets.
std::optional<std::string> address_of(std::string_view target) {
  const std::size_t colon = target.rfind(':');
  if (colon == std::string_view::npos || target.find_first_of(" \t") != std::string_view::npos) {
    return std::nullopt;
  }
  const std::string_view host = target.substr(0, colon);
  const std::string_view port = target.substr(colon + 1);
  if (host == "unix_socket") {
    if (port.empty() || port.front() != '/') return std::nullopt;
    return "unix:" + std::string(port);
  }
  if (host.empty() || !is_port(port)) return std::nullopt;
  if (host.find(':') == std::string_view::npos || host.front() == '[') return std::string(target);
  return "[" + std::string(host) + "]:" + std::string(port);
}

// Where the colon stands that ends the token: the only one with a blank behind it.
std::optional<std::size_t> end_of_token(std::string_view line) {
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i + 1 < line.size(); ++i) {
    if (line[i] != ':' || blanks.find(line[i + 1]) == std::string_view::npos) continue;
    if (found) return std::nullopt;
    found = i;
  }
  return found;
}

Result<std::pair<std::string, std::string>> parse_line(std::string_view line) {
  if (has_control_character(line)) return fail("a control character");
  const auto end = end_of_token(line);
  if (!end) return fail("expected \"token: host:port\"");
  const std::string_view token = line.substr(0, *end);
  if (token.empty()) return fail("no token before the colon");
  if (trim(token) != token) return fail("a blank between the token and its colon");
  const auto address = address_of(trim(line.substr(*end + 1)));
  if (!address) return fail("expected host:port or unix_socket:/path behind the token");
  return std::pair(std::string(token), *address);
}

}  // namespace

Result<Tokens> parse_tokens(std::string_view text) {
  Tokens tokens;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    const std::string_view line = trim(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    auto entry = parse_line(line);
    if (!entry) return fail("line " + std::to_string(number) + ": " + entry.error().message);
    tokens.insert_or_assign(std::move(entry->first), std::move(entry->second));
  }
  return tokens;
}

}  // namespace sluice::bridges
