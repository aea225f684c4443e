// Which web pages may open a socket (RFC 6454, RFC 6455 10.2).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

// Whether a page of this origin may open a socket here.
//
// `origin` is the value of the Origin field, empty if none came: that is no browser, and let in
// unless `require_origin`. `allowed` lists origins, "null" or "*" (all of them); scheme, host and
// port must match exactly, default ports spelt out or not. What is no scheme://host:port
// ("null", "file://") matches only the same text.
//
// If `allowed` is empty, only the same origin may: the page's host and port are those of
// `authority`, the request's Host, where a missing port means the default of the page's scheme.
// With TLS (`listener_scheme` "https") the page must be https too. Without TLS ("http") an https
// page is let in as well, since a proxy in front of us may have ended its TLS; such a proxy must
// pass Host on as it came.
bool origin_allowed(std::string_view origin, std::string_view listener_scheme,
                    std::string_view authority, const std::vector<std::string>& allowed,
                    bool require_origin);

}  // namespace sluice::http
