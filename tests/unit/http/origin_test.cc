#include "http/origin.h"

#include <doctest/doctest.h>

#include <ostream>

namespace sluice::http {
namespace {

using Origins = std::vector<std::string>;

bool listed(std::string_view origin, const Origins& allowed) {
  return origin_allowed(origin, "https", "gateway.example", allowed, false);
}

bool same(std::string_view origin, std::string_view scheme, std::string_view host) {
  return origin_allowed(origin, scheme, host, {}, false);
}

TEST_CASE("a listed origin matches exactly (RFC 6455 10.2)") {
  const Origins good = {"https://good.com"};
  CHECK(listed("https://good.com", good));
  CHECK(listed("https://GOOD.com:443", good));
  CHECK(listed("https://good.com", {"https://other.com", "https://good.com:443"}));
  for (const char* evil :
       {"https://good.com.evil.com", "https://evil.com", "https://evilgood.com", "http://good.com",
        "https://good.com:8443", "https://good.com@evil.com", "https://evil.com/https://good.com",
        "https://good.com/", "https://sub.good.com", "https://good.co", "null", "good.com",
        "https://good.com https://evil.com", "https://evil.com, https://good.com", "https://"}) {
    CAPTURE(evil);
    CHECK_FALSE(listed(evil, good));
  }
}

TEST_CASE("* allows all, and null is let in only when listed") {
  CHECK(listed("https://any.example", {"*"}));
  CHECK(listed("null", {"*"}));
  CHECK(listed("null", {"https://good.com", "null"}));
  CHECK(listed("file://", {"file://"}));
  CHECK_FALSE(listed("null", {"https://good.com"}));
  CHECK_FALSE(listed("https://any.example", {"null"}));
  CHECK_FALSE(listed("https://a*", {"https://*"}));
}

TEST_CASE("without a list only the same origin is let in") {
  CHECK(same("https://a.com", "https", "a.com"));
  CHECK(same("https://a.com", "https", "A.com:443"));
  CHECK(same("http://a.com:9998", "http", "a.com:9998"));
  CHECK(same("http://a.com", "http", "a.com:80"));
  CHECK(same("http://[::1]:9998", "http", "[::1]:9998"));
  CHECK_FALSE(same("https://a.com", "https", "b.com"));
  CHECK_FALSE(same("https://a.com:8443", "https", "a.com"));
  CHECK_FALSE(same("https://a.com.evil.com", "https", "a.com"));
  CHECK_FALSE(same("http://a.com", "http", "a.com:9998"));
  CHECK_FALSE(same("null", "https", "a.com"));
  CHECK_FALSE(same("null", "http", "null"));
  CHECK_FALSE(same("ftp://a.com", "http", "a.com"));
  CHECK_FALSE(same("https://a.com", "https", ""));
}

TEST_CASE("the same origin behind a proxy that ends TLS") {
  CHECK(same("https://a.com", "http", "a.com"));
  CHECK(same("https://a.com:8443", "http", "a.com:8443"));
  // With TLS of our own the page's scheme is known: plain http is another origin.
  CHECK_FALSE(same("http://a.com", "https", "a.com"));
}

TEST_CASE("no Origin is no browser") {
  CHECK(origin_allowed("", "http", "a.com", {}, false));
  CHECK(origin_allowed("", "http", "a.com", {"https://good.com"}, false));
  CHECK_FALSE(origin_allowed("", "http", "a.com", {}, true));
  CHECK_FALSE(origin_allowed("", "http", "a.com", {"*"}, true));
  CHECK(origin_allowed("http://a.com", "http", "a.com", {}, true));
}

}  // namespace
}  // namespace sluice::http
