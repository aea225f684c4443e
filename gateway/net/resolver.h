// Resolver: host names to addresses, in the background (getaddrinfo on libuv's threads).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/address.h"
#include "uv/loop.h"

namespace sluice::net {

// One look-up. Destroying it forgets the answer.
class Resolver {
 public:
  static constexpr std::size_t addresses_max = 32;  // more are cut off

  using Done = std::function<void(Result<std::vector<Address>>)>;
  // `done` is called from the loop, once. IPv4 and IPv6 in the order of the system (RFC 6724); no
  // address twice. Names over 253 bytes, or with a zero byte, fail without being looked up.
  Resolver(uv::Loop& loop, const std::string& host, std::uint16_t port, Done done);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

 private:
  struct Request;
  Request* request_;  // libuv's until it has called back
};

}  // namespace sluice::net
