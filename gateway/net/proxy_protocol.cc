#include "net/proxy_protocol.h"

#include <cstdint>
#include <string_view>

namespace sluice::net {
namespace {

bool is_known(const Endpoint& client, const Endpoint& local) {
  return client.family() != AF_UNIX && client.family() == local.family();
}

void append_u16(std::string& text, std::size_t value) {
  text += static_cast<char>(value >> 8);
  text += static_cast<char>(value & 0xFF);
}

// Section 2.1 of the specification: one line of text.
std::string header_v1(const Endpoint& client, const Endpoint& local) {
  if (!is_known(client, local)) return "PROXY UNKNOWN\r\n";
  return std::string("PROXY ") + (client.family() == AF_INET ? "TCP4 " : "TCP6 ") + client.ip() +
         " " + local.ip() + " " + std::to_string(client.port()) + " " +
         std::to_string(local.port()) + "\r\n";
}

// Section 2.2: a signature, version and command, family and protocol, and the addresses behind
// their size.
std::string header_v2(const Endpoint& client, const Endpoint& local) {
  constexpr char local_command = 0x20;
  constexpr char proxy_command = 0x21;
  constexpr char tcp_over_ipv4 = 0x11;
  constexpr char tcp_over_ipv6 = 0x21;

  std::string header("\r\n\r\n\0\r\nQUIT\n", 12);
  if (!is_known(client, local)) {
    header += local_command;
    header += '\0';  // no family, no protocol
    append_u16(header, 0);
    return header;
  }
  header += proxy_command;
  header += client.family() == AF_INET ? tcp_over_ipv4 : tcp_over_ipv6;
  append_u16(header, 2 * (client.ip_bytes().size() + sizeof(std::uint16_t)));
  header += as_text(client.ip_bytes());
  header += as_text(local.ip_bytes());
  append_u16(header, client.port());
  append_u16(header, local.port());
  return header;
}

}  // namespace

std::string proxy_header(ProxyProtocolVersion version, const Endpoint& client,
                         const Endpoint& local) {
  return version == ProxyProtocolVersion::v1 ? header_v1(client, local) : header_v2(client, local);
}

}  // namespace sluice::net
