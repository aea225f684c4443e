#include "config/syntax.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>
#include <optional>

#include "base/field.h"
#include "base/path_pattern.h"
#include "config/text.h"

namespace sluice::config {
namespace {

std::optional<unsigned> port_of(std::string_view text) {
  unsigned port = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc{} || rest != end || port > 65'535) return std::nullopt;
  return port;
}

// The address in its canonical form, or nothing.
std::optional<std::string> canonical_ip(int family, const std::string& text) {
  in6_addr binary{};  // large enough for both families
  char canonical[INET6_ADDRSTRLEN];
  if (inet_pton(family, text.c_str(), &binary) != 1) return std::nullopt;
  return inet_ntop(family, &binary, canonical, sizeof canonical);
}

Result<std::string> unix_address(std::string_view path) {
  if (!path.starts_with('/')) return fail("a unix socket needs an absolute path: unix:/run/x.sock");
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail("the path of a unix socket has at most " +
                std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes");
  }
  return "unix:" + std::string(path);
}

Result<std::string> ip_address(std::string_view host, std::string_view port) {
  if (!port_of(port)) return fail("the port must be a number from 0 to 65535");
  const auto with_port = ":" + std::to_string(*port_of(port));
  if (host == "localhost") return "127.0.0.1" + with_port;
  if (host.starts_with('[') && host.ends_with(']')) {
    const auto ip = canonical_ip(AF_INET6, std::string(host.substr(1, host.size() - 2)));
    if (ip) return "[" + *ip + "]" + with_port;
  } else if (host.find(':') != std::string_view::npos) {
    return fail("an IPv6 address stands in brackets: [::1]:9998");
  } else if (const auto ip = canonical_ip(AF_INET, std::string(host))) {
    return *ip + with_port;
  }
  return fail("the host must be an IP address or localhost, as in 0.0.0.0:9998 or [::]:9998");
}

Result<std::string> check_address(std::string_view text) {
  if (text.starts_with("unix:")) return unix_address(text.substr(5));
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return fail(port_of(text) ? "the host is missing: write 0.0.0.0:" + std::string(text) +
                                    " for all interfaces or 127.0.0.1:" + std::string(text)
                              : "the port is missing, as in 0.0.0.0:9998");
  }
  const auto port = std::string(text.substr(colon));
  if (colon == 0) {
    return fail("the host is missing: write 0.0.0.0" + port + " for all interfaces, [::]" + port +
                " for IPv6 too, or 127.0.0.1" + port + " for this machine only");
  }
  return ip_address(text.substr(0, colon), text.substr(colon + 1));
}

bool is_scheme(std::string_view text) {
  for (const char c : text) {
    const bool letter = c >= 'a' && c <= 'z';
    const bool other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
    if (!letter && !other) return false;
  }
  return !text.empty() && text[0] >= 'a' && text[0] <= 'z';  // RFC 3986 3.1
}

bool is_default_port(std::string_view scheme, unsigned port) {
  return (scheme == "http" && port == 80) || (scheme == "https" && port == 443);
}

// RFC 6454 6.2: scheme "://" host [ ":" port ], in lower case, without the scheme's default port.
// That is what browsers send, and origins are compared as texts.
Result<std::string> check_origin(std::string_view text) {
  if (text == "*" || text == "null") return std::string(text);
  const std::string lower = to_lower(text);
  const auto colon = lower.find("://");
  if (colon == std::string::npos || !is_scheme(std::string_view(lower).substr(0, colon))) {
    return fail("expected \"*\", \"null\" or an origin such as https://example.com");
  }
  const auto scheme = std::string_view(lower).substr(0, colon);
  const auto authority = std::string_view(lower).substr(colon + 3);
  if (authority.find_first_of("/?#") != std::string_view::npos) {
    return fail("an origin has no path: it ends after the host and the port");
  }
  const auto bracket = authority.rfind(']');
  const auto separator = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  auto host = normalise_host(authority.substr(0, separator));
  if (!host) return host;
  std::string origin = std::string(scheme) + "://" + *host;
  if (separator == std::string_view::npos) return origin;
  const auto port = port_of(authority.substr(separator + 1));
  if (!port || *port == 0) return fail("the port must be a number from 1 to 65535");
  if (!is_default_port(scheme, *port)) origin += ":" + std::to_string(*port);
  return origin;
}

std::string resolve(std::string_view path, const std::string& base_dir) {
  if (path.starts_with('/') || base_dir.empty()) return std::string(path);
  return base_dir + (base_dir.ends_with('/') ? "" : "/") + std::string(path);
}

// Searched by name, unless it is a path.
std::string resolve_library(std::string_view library, const std::string& base_dir) {
  const bool is_path = library.find('/') != std::string_view::npos;
  return is_path ? resolve(library, base_dir) : std::string(library);
}

Result<std::string> check_file_name(std::string_view text) {
  if (text == "." || text == ".." || text.find('/') != std::string_view::npos) {
    return fail("expected a file name without a folder");
  }
  return std::string(text);
}

Result<std::string> check_route_name(std::string_view text) {
  if (text.size() > route_name_bytes_max) {
    return fail("longer than " + std::to_string(route_name_bytes_max) + " bytes");
  }
  return std::string(text);
}

Result<std::string> check_subprotocol(std::string_view text) {
  // RFC 6455 4.1 item 10: elements of Sec-WebSocket-Protocol are tokens.
  if (!is_token(text))
    return fail("a subprotocol is a token: no spaces, commas, slashes or quotes");
  return std::string(text);
}

// Everything before the port, with the colon.
std::string_view host_part(std::string_view address) {
  return address.substr(0, address.rfind(':') + 1);
}

}  // namespace

Result<std::string> check_syntax(Syntax syntax, std::string_view text,
                                 const std::string& base_dir) {
  if (text.empty()) return fail("must not be empty");
  if (has_control(text)) return fail("control characters are not allowed");
  switch (syntax) {
    case Syntax::address:
      return check_address(text);
    case Syntax::library:
      return resolve_library(text, base_dir);
    case Syntax::path:
      return resolve(text, base_dir);
    case Syntax::file_name:
      return check_file_name(text);
    case Syntax::host:
      return normalise_host(text);
    case Syntax::pattern:
      // As written: metrics and logs show it, and the router normalises it itself.
      return parse_path_pattern(text).map([&](const PathPattern&) { return std::string(text); });
    case Syntax::route_name:
      return check_route_name(text);
    case Syntax::origin:
      return check_origin(text);
    case Syntax::subprotocol:
      return check_subprotocol(text);
    case Syntax::plugin:
      break;
  }
  return std::string(text);
}

bool addresses_collide(std::string_view a, std::string_view b) {
  if (a.starts_with("unix:") || b.starts_with("unix:")) return a == b;
  const auto port = a.substr(host_part(a).size());
  if (port != b.substr(host_part(b).size()) || port == "0") return false;
  const auto host_a = host_part(a);
  const auto host_b = host_part(b);
  // A wildcard takes the port of every address of its family.
  const auto covers = [](std::string_view wide, std::string_view other) {
    return (wide == "0.0.0.0:" && !other.starts_with('[')) ||
           (wide == "[::]:" && other.starts_with('['));
  };
  return host_a == host_b || covers(host_a, host_b) || covers(host_b, host_a);
}

}  // namespace sluice::config
