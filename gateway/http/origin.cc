#include "http/origin.h"

#include <algorithm>
#include <optional>

#include "base/field.h"
#include "http/authority.h"

namespace sluice::http {
namespace {

struct Origin {
  std::string scheme;  // lower case
  std::string host;
  std::optional<std::uint16_t> port;  // with defaults filled in

  bool operator==(const Origin&) const = default;
};

// RFC 6454 6.2: scheme "://" host [ ":" port ], and nothing behind it.
std::optional<Origin> parse_origin(std::string_view text) {
  const std::size_t colon = text.find("://");
  if (colon == std::string_view::npos) return std::nullopt;
  std::string scheme = to_lower(text.substr(0, colon));
  std::optional<Authority> authority = parse_authority(text.substr(colon + 3));
  if (!authority) return std::nullopt;
  const auto port = authority->port ? authority->port : default_port(scheme);
  return Origin{std::move(scheme), std::move(authority->host), port};
}

bool is_same_origin(std::string_view origin, std::string_view listener_scheme,
                    std::string_view authority) {
  const std::optional<Origin> page = parse_origin(origin);
  if (!page) return false;
  if (page->scheme != "https" && (page->scheme != "http" || listener_scheme == "https"))
    return false;
  return page == parse_origin(page->scheme + "://" + std::string(authority));
}

bool matches(std::string_view origin, const std::string& pattern) {
  if (pattern == "*" || pattern == origin) return true;
  const std::optional<Origin> listed = parse_origin(pattern);
  return listed && listed == parse_origin(origin);
}

}  // namespace

bool origin_allowed(std::string_view origin, std::string_view listener_scheme,
                    std::string_view authority, const std::vector<std::string>& allowed,
                    bool require_origin) {
  if (origin.empty()) return !require_origin;
  if (allowed.empty()) return is_same_origin(origin, listener_scheme, authority);
  return std::any_of(allowed.begin(), allowed.end(),
                     [origin](const std::string& pattern) { return matches(origin, pattern); });
}

}  // namespace sluice::http
