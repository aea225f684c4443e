#include "http/authority.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "base/field.h"

namespace sluice::http {
namespace {

constexpr std::size_t host_bytes_max = 255;  // RFC 1035 2.3.4

// The length of the host at the front of the text; 0 if there is none.
std::size_t host_size(std::string_view text) {
  if (!text.starts_with('[')) return std::min(text.find(':'), text.size());
  const std::size_t bracket = text.find(']');
  return bracket == std::string_view::npos ? 0 : bracket + 1;
}

bool is_ipv6_literal(std::string_view text) {
  if (text.size() < 4 || text.front() != '[' || text.back() != ']') return false;
  in6_addr address;
  return inet_pton(AF_INET6, std::string(text.substr(1, text.size() - 2)).c_str(), &address) == 1;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.front() != '.' && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
           c == '~';
  });
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc{} || rest != end) return std::nullopt;
  return port;
}

}  // namespace

std::optional<Authority> parse_authority(std::string_view text) {
  const std::string_view host = text.substr(0, host_size(text));
  const std::string_view rest = text.substr(host.size());
  Authority authority{to_lower(host), std::nullopt};
  if (host.size() > host_bytes_max) return std::nullopt;
  if (!is_ipv6_literal(authority.host) && !is_name(authority.host)) return std::nullopt;
  if (!rest.empty()) {
    if (rest.front() != ':') return std::nullopt;
    authority.port = parse_port(rest.substr(1));
    if (!authority.port) return std::nullopt;
  }
  if (authority.host.ends_with('.')) authority.host.pop_back();
  return authority;
}

std::optional<std::uint16_t> default_port(std::string_view scheme) {
  if (scheme == "http") return std::uint16_t{80};
  if (scheme == "https") return std::uint16_t{443};
  return std::nullopt;
}

}  // namespace sluice::http
