#include "net/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <iterator>

namespace sluice::net {
namespace {

// One a request, and inet_ntop() goes by way of sprintf().
std::string ipv4_text(const std::uint8_t* address) {
  char text[INET_ADDRSTRLEN];
  char* end = text;
  for (std::size_t i = 0; i < sizeof(in_addr); ++i) {
    if (i != 0) *end++ = '.';
    end = std::to_chars(end, std::end(text), address[i]).ptr;
  }
  return {text, end};
}

std::string host_text(int family, const std::uint8_t* address) {
  if (family == AF_INET) return ipv4_text(address);
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(family, address, text, sizeof text);
  return text;
}

Result<std::uint16_t> parse_port(std::string_view text, std::string_view whole) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail("\"" + std::string(whole) + "\" has no valid port (0 to 65535)");
  }
  return port;
}

}  // namespace

Endpoint::Endpoint(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    std::memcpy(ip_.data(), &v4.sin_addr, sizeof v4.sin_addr);
    port_ = ntohs(v4.sin_port);
    family_ = AF_INET;
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    std::memcpy(ip_.data(), &v6.sin6_addr, sizeof v6.sin6_addr);
    port_ = ntohs(v6.sin6_port);
    family_ = AF_INET6;
  }
}

std::string Endpoint::ip() const {
  return family_ == AF_UNIX ? "unix" : host_text(family_, ip_.data());
}

std::string Endpoint::to_string() const {
  if (family_ == AF_UNIX) return "unix";
  const std::string host = family_ == AF_INET6 ? "[" + ip() + "]" : ip();
  return host + ":" + std::to_string(port_);
}

Bytes Endpoint::ip_bytes() const {
  if (family_ == AF_UNIX) return {};
  return Bytes(ip_).first(family_ == AF_INET ? sizeof(in_addr) : sizeof(in6_addr));
}

Address::Address(const sockaddr* address, socklen_t size)
    : size_(std::min<socklen_t>(size, sizeof storage_)) {
  std::memcpy(&storage_, address, size_);
}

bool Address::operator==(const Address& other) const {
  return size_ == other.size_ && std::memcmp(&storage_, &other.storage_, size_) == 0;
}

Result<Address> Address::parse(std::string_view text) {
  Address address;
  if (text.starts_with("unix:")) {
    const std::string_view path = text.substr(5);
    auto* un = reinterpret_cast<sockaddr_un*>(&address.storage_);
    if (path.empty() || path.size() >= sizeof un->sun_path) {
      return fail("\"" + std::string(text) + "\": a unix socket's path has 1 to " +
                  std::to_string(sizeof un->sun_path - 1) + " bytes");
    }
    un->sun_family = AF_UNIX;
    std::memcpy(un->sun_path, path.data(), path.size());
    address.size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    return address;
  }

  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return fail("\"" + std::string(text) + "\" is not host:port");
  }
  const auto port = parse_port(text.substr(colon + 1), text);
  if (!port) return tl::unexpected(port.error());

  std::string host(text.substr(0, colon));
  if (host == "localhost") host = "127.0.0.1";
  if (host.starts_with('[') && host.ends_with(']')) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage_);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(*port);
    address.size_ = sizeof(sockaddr_in6);
    host = host.substr(1, host.size() - 2);
    if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) return address;
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage_);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(*port);
    address.size_ = sizeof(sockaddr_in);
    if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) return address;
  }
  return fail("\"" + std::string(text) +
              "\": the host must be an IPv4 address, an IPv6 address in [brackets] or localhost");
}

Result<Address> Address::of_socket(int fd) {
  Address address;
  address.size_ = sizeof address.storage_;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage_), &address.size_) != 0) {
    return fail_errno("getsockname", errno);
  }
  return address;
}

Result<Address> Address::of_peer(int fd) {
  Address address;
  address.size_ = sizeof address.storage_;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage_), &address.size_) != 0) {
    return fail_errno("getpeername", errno);
  }
  return address;
}

std::uint16_t Address::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
  if (family() == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
  }
  return 0;
}

std::string Address::unix_path() const {
  if (family() != AF_UNIX) return {};
  return reinterpret_cast<const sockaddr_un*>(&storage_)->sun_path;
}

bool Address::is_wildcard() const {
  if (family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return family() == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr);
}

std::string Address::to_string() const {
  if (family() == AF_UNIX) return "unix:" + unix_path();
  return Endpoint(storage_).to_string();
}

}  // namespace sluice::net
