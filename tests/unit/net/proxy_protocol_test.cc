#include "net/proxy_protocol.h"

#include <doctest/doctest.h>

using namespace sluice;
using net::Endpoint;
using net::ProxyProtocolVersion;

namespace {

Endpoint endpoint(const char* address) {
  const auto parsed = net::Address::parse(address);
  REQUIRE(parsed.has_value());
  return Endpoint(reinterpret_cast<const sockaddr_storage&>(*parsed->raw()));
}

std::string header(ProxyProtocolVersion version, const char* client, const char* local) {
  return net::proxy_header(version, endpoint(client), endpoint(local));
}

std::string hex(const std::string& text) {
  std::string digits;
  for (const char c : text) {
    for (const int shift : {4, 0}) {
      digits += "0123456789abcdef"[(static_cast<unsigned char>(c) >> shift) & 0xF];
    }
  }
  return digits;
}

// "\r\n\r\n\0\r\nQUIT\n"
const std::string signature = "0d0a0d0a000d0a515549540a";

}  // namespace

TEST_CASE("PROXY protocol, version 1: a line of text") {
  const auto v1 = ProxyProtocolVersion::v1;
  CHECK(header(v1, "192.168.0.1:56324", "192.168.0.11:443") ==
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
  CHECK(header(v1, "255.255.255.255:65535", "255.255.255.255:65535") ==
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
  CHECK(header(v1, "[2001:db8::1]:56324", "[::1]:443") ==
        "PROXY TCP6 2001:db8::1 ::1 56324 443\r\n");
  // No line is longer than 107 bytes.
  const char* longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
  CHECK(header(v1, longest, longest).size() == 104);
}

TEST_CASE("PROXY protocol, version 2: signature, command, family, size, addresses, ports") {
  const auto v2 = ProxyProtocolVersion::v2;
  CHECK(hex(header(v2, "192.168.0.1:56324", "192.168.0.11:443")) ==
        signature + "21" + "11" + "000c" + "c0a80001" + "c0a8000b" + "dc04" + "01bb");
  CHECK(hex(header(v2, "[2001:db8::1]:56324", "[::1]:443")) ==
        signature + "21" + "21" + "0024" + "20010db8000000000000000000000001" +
            "00000000000000000000000000000001" + "dc04" + "01bb");
}

TEST_CASE("PROXY protocol: a client that has no address of the same family is not told of") {
  for (const auto& [client, local] :
       {std::pair{"unix:/a", "unix:/b"}, std::pair{"unix:/a", "127.0.0.1:80"},
        std::pair{"127.0.0.1:80", "unix:/b"}, std::pair{"127.0.0.1:80", "[::1]:80"},
        std::pair{"[::1]:80", "127.0.0.1:80"}}) {
    CAPTURE(client);
    CAPTURE(local);
    CHECK(header(ProxyProtocolVersion::v1, client, local) == "PROXY UNKNOWN\r\n");
    CHECK(hex(header(ProxyProtocolVersion::v2, client, local)) == signature + "20" + "00" + "0000");
  }
}
