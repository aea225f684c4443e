// Headers of the PROXY protocol: two endpoints of any kind, read again as the specification says
// (haproxy's doc/proxy-protocol.txt, sections 2.1 and 2.2).
//
//   for each endpoint: a byte for its family, two for the port, then the address
//
// What must hold: a receiver gets the addresses and ports that were given, or is told that they are
// not known; and it knows where the header ends.
#include <arpa/inet.h>

#include <charconv>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/input.h"
#include "net/proxy_protocol.h"

namespace {

using namespace sluice;
using fuzz::Input;
using fuzz::require;
using net::Endpoint;
using net::ProxyProtocolVersion;

void fill(Bytes from, void* to) {
  std::memcpy(to, from.data(), from.size());
}

Endpoint endpoint(Input& input) {
  constexpr sa_family_t families[] = {AF_INET, AF_INET6, AF_UNIX};
  sockaddr_storage storage{};
  storage.ss_family = families[input.byte() % 3];
  const in_port_t port = htons(input.u16());
  if (storage.ss_family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
    v4.sin_port = port;
    fill(input.take(sizeof v4.sin_addr), &v4.sin_addr);
  } else if (storage.ss_family == AF_INET6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
    v6.sin6_port = port;
    fill(input.take(sizeof v6.sin6_addr), &v6.sin6_addr);
  }
  return Endpoint(storage);
}

struct Header {
  int family = AF_UNIX;  // unknown
  std::string client;    // bytes of an address in network order
  std::string local;
  unsigned client_port = 0;
  unsigned local_port = 0;
  bool operator==(const Header&) const = default;
};

Header expected(const Endpoint& client, const Endpoint& local) {
  if (client.family() != local.family() || client.family() == AF_UNIX) return {};
  return {client.family(), std::string(as_text(client.ip_bytes())),
          std::string(as_text(local.ip_bytes())), client.port(), local.port()};
}

// ---- Version 1

std::string address_bytes(int family, const std::string& text) {
  std::uint8_t bytes[16];
  require(inet_pton(family, text.c_str(), bytes) == 1, "an address of the family");
  return {reinterpret_cast<const char*>(bytes), family == AF_INET ? std::size_t{4} : 16};
}

// "no leading zeroes", 0 to 65535.
unsigned port_of(const std::string& text) {
  unsigned port = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), port).ptr;
  require(end == text.data() + text.size() && std::to_string(port) == text && port <= 65535,
          "a port as it has to be written");
  return port;
}

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words(1);
  for (const char c : line) {
    if (c == ' ') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

Header read_v1(std::string_view header) {
  require(header.size() <= 107 && header.find("\r\n") + 2 == header.size(),
          "one line of at most 107 bytes");
  const auto words = words_of(header.substr(0, header.size() - 2));
  require(words.size() >= 2 && words[0] == "PROXY", "the signature");
  if (words[1] == "UNKNOWN") return {};
  require(words.size() == 6 && (words[1] == "TCP4" || words[1] == "TCP6"), "six words");
  const int family = words[1] == "TCP4" ? AF_INET : AF_INET6;
  return {family, address_bytes(family, words[2]), address_bytes(family, words[3]),
          port_of(words[4]), port_of(words[5])};
}

// ---- Version 2

unsigned u16_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned>(static_cast<unsigned char>(text[at])) << 8 |
         static_cast<unsigned char>(text[at + 1]);
}

Header read_v2(std::string_view header) {
  constexpr std::string_view signature("\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A", 12);
  require(header.size() >= 16 && header.starts_with(signature), "the signature");
  const std::string_view rest = header.substr(16);
  require(u16_at(header, 14) == rest.size(), "the size of what follows");
  if (header[12] == 0x20) {
    require(header[13] == 0 && rest.empty(), "LOCAL says nothing more");
    return {};
  }
  require(header[12] == 0x21 && (header[13] == 0x11 || header[13] == 0x21), "PROXY, over TCP");
  const std::size_t size = header[13] == 0x11 ? 4 : 16;
  require(rest.size() == 2 * size + 4, "two addresses and two ports");
  return {size == 4 ? AF_INET : AF_INET6, std::string(rest.substr(0, size)),
          std::string(rest.substr(size, size)), u16_at(rest, 2 * size), u16_at(rest, 2 * size + 2)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const Endpoint client = endpoint(input);
  const Endpoint local = endpoint(input);
  const Header header = expected(client, local);
  require(read_v1(net::proxy_header(ProxyProtocolVersion::v1, client, local)) == header,
          "version 1 says who the client is");
  require(read_v2(net::proxy_header(ProxyProtocolVersion::v2, client, local)) == header,
          "version 2 says who the client is");
  return 0;
}
