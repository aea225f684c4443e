#include "net/resolver.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sluice::net {
namespace {

// RFC 1035 3.1, as text.
constexpr std::size_t name_bytes_max = 253;

Result<> check(const std::string& host) {
  if (host.empty()) return fail("the name is empty");
  if (host.size() > name_bytes_max) return fail("the name is longer than 253 bytes");
  // The system would look up what stands before it.
  if (host.find('\0') != std::string::npos) return fail("the name has a zero byte");
  return {};
}

Address with_port(const addrinfo& found, std::uint16_t port) {
  sockaddr_storage address{};
  const auto size = std::min<std::size_t>(found.ai_addrlen, sizeof address);
  std::memcpy(&address, found.ai_addr, size);
  // The port stands at the same place in both.
  if (found.ai_family == AF_INET) reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  if (found.ai_family == AF_INET6) reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  return {reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(size)};
}

}  // namespace

Result<std::vector<Address>> addresses_of(const addrinfo* found, std::uint16_t port) {
  std::vector<Address> addresses;
  for (; found != nullptr && addresses.size() < addresses_max; found = found->ai_next) {
    if (found->ai_family != AF_INET && found->ai_family != AF_INET6) continue;
    const Address address = with_port(*found, port);
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
      addresses.push_back(address);
    }
  }
  if (addresses.empty()) return fail("it has no IPv4 or IPv6 address");
  return addresses;
}

Resolver::Resolver(uv::Loop& loop, const std::string& host, std::uint16_t port, Done done)
    : done_(std::move(done)) {
  const auto told = [this, what = "resolve " + host + ": "](Result<std::vector<Address>> answer) {
    if (!answer) answer = fail(what + answer.error().message);
    const Done last = std::move(done_);  // the resolver may be destroyed in there
    last(std::move(answer));
  };
  auto asked = check(host);
  if (asked) {
    asked = lookup_.start(loop, host, [told, port](Result<const addrinfo*> found) {
      if (!found) return told(tl::unexpected(found.error()));
      told(addresses_of(*found, port));
    });
  }
  if (asked) return;
  refuse_.emplace(loop, [told, error = asked.error()] { told(tl::unexpected(error)); });
  refuse_->start(0);
}

}  // namespace sluice::net
