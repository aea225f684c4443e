// Address: where to listen or to connect to. Endpoint: one end of a connected socket.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace sluice::net {

// The address of an IPv4, IPv6 or unix end, in as little space as it takes: connections keep it.
class Endpoint {
 public:
  Endpoint() = default;
  explicit Endpoint(const sockaddr_storage& address);

  std::string to_string() const;  // "192.0.2.1:49152", "[::1]:49152", "unix"
  std::string ip() const;         // "192.0.2.1", "::1", "unix"

  int family() const { return family_; }        // AF_INET, AF_INET6, or AF_UNIX without a path
  std::uint16_t port() const { return port_; }  // 0 for unix
  Bytes ip_bytes() const;                       // 4 or 16, in network order; none for unix

 private:
  std::uint16_t family_ = AF_UNIX;
  std::uint16_t port_ = 0;
  std::array<std::uint8_t, sizeof(in6_addr)> ip_{};  // an IPv4 address is the first four
};

class Address {
 public:
  // A copy of a socket address of any family.
  Address(const sockaddr* address, socklen_t size);

  // "127.0.0.1:80", "[::1]:80", "localhost:80", "unix:/path". No names are looked up.
  static Result<Address> parse(std::string_view text);
  // The address that a socket is bound to: tells which port the kernel chose for port 0.
  static Result<Address> of_socket(int fd);
  // And the one that it is connected to.
  static Result<Address> of_peer(int fd);

  bool operator==(const Address& other) const;

  int family() const { return storage_.ss_family; }
  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t raw_size() const { return size_; }
  std::uint16_t port() const;     // 0 for unix
  std::string unix_path() const;  // empty unless unix
  bool is_wildcard() const;       // 0.0.0.0 or [::]
  std::string to_string() const;

 private:
  Address() = default;

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

}  // namespace sluice::net
