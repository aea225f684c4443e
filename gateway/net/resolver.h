// Resolver: host names to addresses, in the background (the system's resolver, on libuv's threads).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/address.h"
#include "uv/lookup.h"
#include "uv/loop.h"
#include "uv/timer.h"

namespace sluice::net {

constexpr std::size_t addresses_max = 32;  // of one name; more are cut off

// What the system's resolver found, as addresses with a port: IPv4 and IPv6 in its order, none
// twice, at most `addresses_max`.
Result<std::vector<Address>> addresses_of(const addrinfo* found, std::uint16_t port);

// One look-up. Destroying it forgets the answer.
class Resolver {
 public:
  using Done = std::function<void(Result<std::vector<Address>>)>;
  // `done` is called from the loop, once; the resolver may be destroyed in there. IPv4 and IPv6 in
  // the order of the system (RFC 6724); no address twice. Names over 253 bytes, or with a zero
  // byte, fail without being looked up.
  Resolver(uv::Loop& loop, const std::string& host, std::uint16_t port, Done done);
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

 private:
  Done done_;
  uv::Lookup lookup_;
  std::optional<uv::Timer> refuse_;  // with no delay, for a name that cannot be asked for
};

}  // namespace sluice::net
