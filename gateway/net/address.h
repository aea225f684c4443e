// Address: where to listen, as routes.yaml writes it. Endpoint: the peer of an accepted socket.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::net {

// The address of an IPv4, IPv6 or unix peer, in the space of the IPv6 one: connections keep it.
class Endpoint {
 public:
  Endpoint() : v6_{} { v6_.sin6_family = AF_UNIX; }
  explicit Endpoint(const sockaddr_storage& address);

  std::string to_string() const;  // "192.0.2.1:49152", "[::1]:49152", "unix"
  std::string ip() const;         // "192.0.2.1", "::1", "unix"

 private:
  union {
    sockaddr_in v4_;
    sockaddr_in6 v6_;
  };
};

class Address {
 public:
  // "127.0.0.1:80", "[::1]:80", "localhost:80", "unix:/path". No names are looked up.
  static Result<Address> parse(std::string_view text);
  // The address that a socket is bound to: tells which port the kernel chose for port 0.
  static Result<Address> of_socket(int fd);

  int family() const { return storage_.ss_family; }
  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t raw_size() const { return size_; }
  std::uint16_t port() const;     // 0 for unix
  std::string unix_path() const;  // empty unless unix
  bool is_wildcard() const;       // 0.0.0.0 or [::]
  std::string to_string() const;

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

}  // namespace sluice::net
