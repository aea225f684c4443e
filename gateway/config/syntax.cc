#include "config/syntax.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
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
                " for those of IPv6, or 127.0.0.1" + port + " for this machine only");
  }
  return ip_address(text.substr(0, colon), text.substr(colon + 1));
}

// A host and a port; without a colon the port is empty.
struct HostAndPort {
  std::string_view host;
  std::string_view port;
};

HostAndPort split_authority(std::string_view text) {
  const auto bracket = text.rfind(']');
  const auto colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon == std::string_view::npos) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

Result<unsigned> check_port(std::string_view text) {
  const auto port = port_of(text);
  if (!port || *port == 0) return fail("the port must be a number from 1 to 65535");
  return *port;
}

// "http://127.0.0.1:3000/x": what to write for it.
Result<std::string> refuse_url(std::string_view text) {
  const auto colon = text.find("://");
  const auto scheme = to_lower(text.substr(0, colon));
  const auto authority = text.substr(colon + 3, text.find_first_of("/?#", colon + 3) - colon - 3);
  if (authority.empty()) return fail("an address has no scheme: write backend:8080");
  const bool secure = scheme == "https" || scheme == "wss";
  const bool has_port = !split_authority(authority).port.empty();
  const auto address = std::string(authority) + (has_port ? "" : secure ? ":443" : ":80");
  return fail("an address has no scheme and no path: write " + address +
              (secure ? ", in an upstream with \"tls\"" : ""));
}

Result<std::string> check_endpoint_host(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) {
    const auto ip = canonical_ip(AF_INET6, std::string(host.substr(1, host.size() - 2)));
    if (ip) return "[" + *ip + "]";
    return fail("not an IPv6 address in brackets");
  }
  // A name of digits and dots only would be an address that somebody mistyped.
  const bool numeric = host.find_first_not_of("0123456789.") == std::string_view::npos;
  if (numeric && !canonical_ip(AF_INET, std::string(host))) return fail("not an IPv4 address");
  return normalise_host(host);
}

Result<std::string> check_endpoint(std::string_view text) {
  if (text.starts_with("unix:")) return unix_address(text.substr(5));
  if (text.find("://") != std::string_view::npos) return refuse_url(text);
  const auto colon = text.rfind(':');
  const auto host = text.substr(0, colon);
  if (colon == std::string_view::npos || host.empty()) {
    const auto port = colon == std::string_view::npos ? text : text.substr(1);
    if (port_of(port)) return fail("the host is missing: write 127.0.0.1:" + std::string(port));
    return fail("the port is missing, as in backend:8080");
  }
  if (!host.starts_with('[') && host.find(':') != std::string_view::npos) {
    return fail("an IPv6 address stands in brackets: [::1]:8080");
  }
  if (host.starts_with('[') && !host.ends_with(']')) {
    return fail("the port is missing, as in [::1]:8080");
  }
  const auto port = check_port(text.substr(colon + 1));
  if (!port) return tl::unexpected(port.error());
  return check_endpoint_host(host).map(
      [&](const std::string& name) { return name + ":" + std::to_string(*port); });
}

bool is_name_char(char c) {
  return is_token_char(c) && std::string_view("!#$%&'*+^`|~").find(c) == std::string_view::npos;
}

Result<std::string> check_upstream_name(std::string_view text) {
  if (!std::all_of(text.begin(), text.end(), is_name_char)) {
    return fail("an upstream's name is letters, digits, \"_\", \"-\" and \".\"");
  }
  if (text.size() > upstream_name_bytes_max) {
    return fail("longer than " + std::to_string(upstream_name_bytes_max) + " bytes");
  }
  return std::string(text);
}

Result<std::string> check_authority(std::string_view text) {
  const auto [host, port] = split_authority(text);
  auto name = normalise_host(host);
  if (!name || host.size() == text.size()) return name;
  return check_port(port).map(
      [&](unsigned number) { return *name + ":" + std::to_string(number); });
}

std::string zero_bits_after(std::size_t prefix, int family, const std::string& ip) {
  in6_addr binary{};
  inet_pton(family, ip.c_str(), &binary);
  const std::size_t bits = family == AF_INET ? 32 : 128;
  for (std::size_t bit = prefix; bit < bits; ++bit) {
    binary.s6_addr[bit / 8] &= static_cast<std::uint8_t>(~(0x80U >> (bit % 8)));
  }
  char canonical[INET6_ADDRSTRLEN];
  return inet_ntop(family, &binary, canonical, sizeof canonical);
}

// RFC 4632 3.1. Bits behind the prefix are a mistake: what was meant is not known.
Result<std::string> check_proxy_range(std::string_view text) {
  if (text == "unix") return std::string(text);
  const auto slash = text.find('/');
  const std::string host(text.substr(0, slash));
  const int family = host.find(':') == std::string::npos ? AF_INET : AF_INET6;
  const auto ip = canonical_ip(family, host);
  if (!ip) return fail("expected an IP address, a range such as 10.0.0.0/8, or unix");
  if (slash == std::string_view::npos) return *ip;
  const auto prefix = port_of(text.substr(slash + 1));  // a small number like any other
  const unsigned bits = family == AF_INET ? 32 : 128;
  if (!prefix || *prefix > bits) {
    return fail("after \"/\" stands a number from 0 to " + std::to_string(bits));
  }
  const auto range = zero_bits_after(*prefix, family, *ip) + "/" + std::to_string(*prefix);
  if (!range.starts_with(*ip + "/")) return fail("the range is " + range);
  return range;
}

struct HashKind {
  std::string_view prefix;
  HashOn::Kind kind;
};

constexpr HashKind hash_kinds[] = {
    {"header:", HashOn::Kind::header},
    {"cookie:", HashOn::Kind::cookie},
    {"parameter:", HashOn::Kind::parameter},
};

Result<std::string> check_hash_on(std::string_view text) {
  if (text == "client") return std::string(text);
  for (const auto& [prefix, kind] : hash_kinds) {
    if (!text.starts_with(prefix)) continue;
    if (is_token(text.substr(prefix.size()))) return std::string(text);
    return fail("after \"" + std::string(prefix) + "\" stands its name");
  }
  return fail("expected client, header:X-User, cookie:sid or parameter:room");
}

// RFC 9112 3.2.1: origin-form. Anything but a space and a fragment may be percent-encoded in it.
Result<std::string> check_request_target(std::string_view text) {
  if (!text.starts_with('/')) return fail("a path begins with \"/\"");
  for (const char c : text) {
    if (c == ' ' || c == '#' || static_cast<unsigned char>(c) > 0x7e) {
      return fail("spaces, \"#\" and other than ASCII must be percent-encoded");
    }
  }
  return std::string(text);
}

// In its normal form, literals percent-encoded.
Result<std::string> check_rewrite(std::string_view text) {
  const auto pattern = parse_path_pattern(text);
  if (!pattern) return tl::unexpected(pattern.error());
  std::string path;
  for (const auto& segment : pattern->segments) {
    path += segment.parameter ? "/{" + segment.text + "}" : "/" + segment.text;
  }
  return path + (pattern->any_suffix ? "/*" : "");
}

// What frames a message and what opens a WebSocket is between the gateway and the upstream.
bool is_our_own(std::string_view header) {
  static constexpr std::string_view ours[] = {"connection", "keep-alive",        "proxy-connection",
                                              "te",         "trailer",           "upgrade",
                                              "expect",     "transfer-encoding", "content-length"};
  const auto name = to_lower(header);
  return name.starts_with("sec-websocket-") ||
         std::find(std::begin(ours), std::end(ours), name) != std::end(ours);
}

Result<std::string> check_header_name(std::string_view text) {
  if (!is_token(text)) return fail("not the name of a header field");
  if (is_our_own(text)) return fail("the gateway sets this field itself");
  return std::string(text);
}

Result<std::string> check_header_value(std::string_view text) {
  // RFC 9110 5.5: a value has no space at its ends.
  if (trim(text) != text) return fail("a field's value does not begin or end with a space");
  return std::string(text);
}

bool is_base64_char(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
         c == '/';
}

// RFC 4648 4: groups of four, the last one padded.
bool is_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return false;
  for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  return std::all_of(text.begin(), text.end(), is_base64_char);
}

Result<std::string> check_signing_key(std::string_view text) {
  constexpr std::string_view prefix = "base64:";
  if (text.starts_with(prefix) && !is_base64(text.substr(prefix.size()))) {
    return fail("what follows \"base64:\" is no base64");
  }
  return std::string(text);
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
  if (scheme == "ws" || scheme == "wss") {
    return fail("the origin is the page's: write " +
                std::string(scheme == "ws" ? "http" : "https") + lower.substr(colon));
  }
  const auto authority = std::string_view(lower).substr(colon + 3);
  if (authority.find_first_of("/?#") != std::string_view::npos) {
    return fail("an origin has no path: it ends after the host and the port");
  }
  const auto [host, port_text] = split_authority(authority);
  auto name = normalise_host(host);
  if (!name) return name;
  std::string origin = std::string(scheme) + "://" + *name;
  if (host.size() == authority.size()) return origin;
  const auto port = check_port(port_text);
  if (!port) return tl::unexpected(port.error());
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
    case Syntax::proxy_range:
      return check_proxy_range(text);
    case Syntax::upstream_name:
      return check_upstream_name(text);
    case Syntax::upstream:
      return is_endpoint(text) ? check_endpoint(text) : check_upstream_name(text);
    case Syntax::endpoint:
      return check_endpoint(text);
    case Syntax::hash_on:
      return check_hash_on(text);
    case Syntax::authority:
      return check_authority(text);
    case Syntax::request_target:
      return check_request_target(text);
    case Syntax::rewrite:
      return check_rewrite(text);
    case Syntax::header_name:
      return check_header_name(text);
    case Syntax::header_value:
      return check_header_value(text);
    case Syntax::signing_key:
      return check_signing_key(text);
    case Syntax::plugin:
    case Syntax::token:
    case Syntax::words:
    case Syntax::secret:
      break;
  }
  return std::string(text);
}

HashOn parse_hash_on(std::string_view text) {
  for (const auto& [prefix, kind] : hash_kinds) {
    if (text.starts_with(prefix)) return {kind, std::string(text.substr(prefix.size()))};
  }
  return {};
}

bool is_endpoint(std::string_view upstream) {
  return upstream.find(':') != std::string_view::npos;
}

bool is_local(std::string_view address) {
  return address.starts_with("unix:") || address.starts_with("127.") ||
         address.starts_with("[::1]:");
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
