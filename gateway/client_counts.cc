#include "client_counts.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace sluice {

std::size_t ClientCounts::Hash::operator()(const Key& key) const {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(key.data()), key.size()});
}

// False for a client that is not counted.
bool ClientCounts::key_of(const net::Endpoint& client, Key& key) {
  constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  constexpr std::size_t network_bytes = 8;
  Bytes ip = client.ip_bytes();
  if (ip.empty()) return false;
  // RFC 4291 2.5.5.2: how a socket for both families has IPv4 clients.
  if (ip.size() == 16 && std::equal(mapped, mapped + 12, ip.begin())) ip = ip.last(4);
  key = {static_cast<std::uint8_t>(ip.size())};
  std::copy_n(ip.begin(), std::min(ip.size(), network_bytes), key.begin() + 1);
  return true;
}

ClientCounts::Verdict ClientCounts::enter(const net::Endpoint& client) {
  Key key;
  if (!active() || !key_of(client, key)) return Verdict::welcome;
  const std::lock_guard lock(mutex_);
  Counts& counts = counts_[key];
  if (limits_.handshakes_max != 0 && counts.handshakes >= limits_.handshakes_max) {
    return Verdict::too_many_handshakes;
  }
  ++counts.handshakes;
  ++counts.connections;
  const bool full = limits_.connections_max != 0 && counts.connections > limits_.connections_max;
  return full ? Verdict::too_many_connections : Verdict::welcome;
}

void ClientCounts::opened(const net::Endpoint& client) {
  Key key;
  if (!active() || !key_of(client, key)) return;
  const std::lock_guard lock(mutex_);
  --counts_[key].handshakes;
}

void ClientCounts::leave(const net::Endpoint& client, bool opened) {
  Key key;
  if (!active() || !key_of(client, key)) return;
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(key);
  --found->second.connections;
  if (!opened) --found->second.handshakes;
  if (found->second.connections == 0) counts_.erase(found);
}

std::size_t ClientCounts::clients() const {
  const std::lock_guard lock(mutex_);
  return counts_.size();
}

}  // namespace sluice
