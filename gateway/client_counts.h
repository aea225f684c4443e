// ClientCounts: how many connections each client address has, where that is limited.
//
// A client is an IPv4 address or an IPv6 network of 64 bits, since that is what one subscriber
// gets. Clients of unix sockets are not counted. Thread-safe: entered on the
// acceptor's thread, left on the workers'. Without limits nothing is counted, and nothing locked.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "net/address.h"

namespace sluice {

class ClientCounts {
 public:
  struct Limits {
    std::uint32_t connections_max = 0;  // of one client; 0: no limit
    std::uint32_t handshakes_max = 0;   // of those, which have not become a WebSocket; 0: no limit
  };

  explicit ClientCounts(Limits limits) : limits_(limits) {}

  bool active() const { return limits_.connections_max != 0 || limits_.handshakes_max != 0; }

  enum class Verdict : std::uint8_t { welcome, too_many_connections, too_many_handshakes };
  // A connection was accepted. One that has too many handshakes is not counted: it is to be closed.
  Verdict enter(const net::Endpoint& client);
  // It has become a WebSocket.
  void opened(const net::Endpoint& client);
  // It is over; `opened`: it had become one.
  void leave(const net::Endpoint& client, bool opened);

  std::size_t clients() const;  // that have connections now

 private:
  using Key = std::array<std::uint8_t, 9>;  // the size of the address, and its first bytes
  struct Hash {
    std::size_t operator()(const Key& key) const;
  };
  struct Counts {
    std::uint32_t connections = 0;
    std::uint32_t handshakes = 0;
  };

  static bool key_of(const net::Endpoint& client, Key& key);

  const Limits limits_;
  mutable std::mutex mutex_;
  std::unordered_map<Key, Counts, Hash> counts_;
};

}  // namespace sluice
