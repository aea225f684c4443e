#include "net/address.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>

#include <cstring>
#include <string>

using namespace sluice;
using net::Address;
using net::Endpoint;

TEST_CASE("addresses are read as routes.yaml writes them, and written the same way") {
  const struct {
    std::string text;
    int family;
    int port;
    bool wildcard;
    std::string written;
  } rows[] = {
      {"127.0.0.1:80", AF_INET, 80, false, "127.0.0.1:80"},
      {"0.0.0.0:0", AF_INET, 0, true, "0.0.0.0:0"},
      {"localhost:65535", AF_INET, 65535, false, "127.0.0.1:65535"},
      {"[::1]:9998", AF_INET6, 9998, false, "[::1]:9998"},
      {"[::]:9998", AF_INET6, 9998, true, "[::]:9998"},
      {"[2001:DB8:0::1]:1", AF_INET6, 1, false, "[2001:db8::1]:1"},
      {"unix:/run/sluice.sock", AF_UNIX, 0, false, "unix:/run/sluice.sock"},
      {"unix:relative", AF_UNIX, 0, false, "unix:relative"},
      {"unix:" + std::string(107, 'x'), AF_UNIX, 0, false, "unix:" + std::string(107, 'x')},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const auto address = Address::parse(row.text);
    REQUIRE(address.has_value());
    CHECK(address->family() == row.family);
    CHECK(address->port() == row.port);
    CHECK(address->is_wildcard() == row.wildcard);
    CHECK(address->to_string() == row.written);
    CHECK(address->unix_path() == (row.family == AF_UNIX ? row.text.substr(5) : ""));
  }
}

TEST_CASE("what is no address is refused, and the error quotes it") {
  for (const std::string text :
       {"", "80", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1:80x", "127.0.0.1: 80", "256.0.0.1:80", "127.1:80", "example.org:80", "::1:80",
        "[::1]", "[::1:80", "[]:80", "[127.0.0.1]:80", "[::1%lo]:80", "unix:"}) {
    CAPTURE(text);
    const auto address = Address::parse(text);
    REQUIRE_FALSE(address.has_value());
    CHECK(address.error().message.find("\"" + text + "\"") != std::string::npos);
  }
  CHECK_FALSE(Address::parse("unix:" + std::string(108, 'x')).has_value());
}

TEST_CASE("the peer of an accepted socket is written as people read it") {
  const auto endpoint = [](const std::string& text) {
    sockaddr_storage storage{};
    const auto address = Address::parse(text);
    REQUIRE(address.has_value());
    std::memcpy(&storage, address->raw(), address->raw_size());
    return Endpoint(storage);
  };
  CHECK(endpoint("192.0.2.1:49152").to_string() == "192.0.2.1:49152");
  CHECK(endpoint("192.0.2.1:49152").ip() == "192.0.2.1");
  CHECK(endpoint("255.255.255.255:1").ip() == "255.255.255.255");
  CHECK(endpoint("0.10.0.100:1").ip() == "0.10.0.100");
  CHECK(endpoint("[::1]:49152").to_string() == "[::1]:49152");
  CHECK(endpoint("[::1]:49152").ip() == "::1");
  CHECK(endpoint("unix:/x").to_string() == "unix");
  CHECK(Endpoint().to_string() == "unix");
  CHECK(Endpoint().ip() == "unix");
}
