// What is done when memory runs short, and for clients that take too many connections.
#include "overload.h"

#include "client_counts.h"
#include "house.h"

using namespace sluice;
using namespace sluice::test;

namespace {

constexpr std::uint64_t budget = 100'000'000;

OverloadLevel level_at(std::uint64_t percent, OverloadLevel before = OverloadLevel::none) {
  return next_level(before, budget / 100 * percent, budget);
}

net::Endpoint endpoint(const char* address) {
  sockaddr_storage storage{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
    storage.ss_family = AF_INET;
  } else {
    REQUIRE(inet_pton(AF_INET6, address, &v6->sin6_addr) == 1);
    storage.ss_family = AF_INET6;
  }
  return net::Endpoint(storage);
}

}  // namespace

TEST_CASE("each step of an overload is taken at its share of the budget") {
  CHECK(level_at(84) == OverloadLevel::none);
  CHECK(level_at(85) == OverloadLevel::refuse);
  CHECK(level_at(89) == OverloadLevel::refuse);
  CHECK(level_at(90) == OverloadLevel::shrink);
  CHECK(level_at(95) == OverloadLevel::evict);
  CHECK(level_at(300) == OverloadLevel::evict);
}

TEST_CASE("a step that was taken holds until there are five percent less") {
  CHECK(level_at(90, OverloadLevel::evict) == OverloadLevel::evict);
  CHECK(level_at(89, OverloadLevel::evict) == OverloadLevel::shrink);
  CHECK(level_at(84, OverloadLevel::evict) == OverloadLevel::refuse);
  CHECK(level_at(80, OverloadLevel::refuse) == OverloadLevel::refuse);
  CHECK(level_at(79, OverloadLevel::refuse) == OverloadLevel::none);
  CHECK(level_at(79, OverloadLevel::evict) == OverloadLevel::none);
}

TEST_CASE("a client's connections are counted until they are over") {
  ClientCounts counts({.connections_max = 2, .handshakes_max = 0});
  const net::Endpoint client = endpoint("192.0.2.1");
  CHECK(counts.enter(client) == ClientCounts::Verdict::welcome);
  counts.opened(client);
  CHECK(counts.enter(client) == ClientCounts::Verdict::welcome);
  CHECK(counts.enter(client) == ClientCounts::Verdict::too_many_connections);
  CHECK(counts.enter(endpoint("192.0.2.2")) == ClientCounts::Verdict::welcome);
  CHECK(counts.clients() == 2);
  counts.leave(client, false);
  counts.leave(client, true);
  CHECK(counts.enter(client) == ClientCounts::Verdict::welcome);
  counts.leave(client, false);
  counts.leave(client, false);
  counts.leave(endpoint("192.0.2.2"), false);
  CHECK(counts.clients() == 0);
}

TEST_CASE("handshakes are limited apart from sockets, and one too many is not counted") {
  ClientCounts counts({.connections_max = 0, .handshakes_max = 2});
  const net::Endpoint client = endpoint("192.0.2.1");
  CHECK(counts.enter(client) == ClientCounts::Verdict::welcome);
  CHECK(counts.enter(client) == ClientCounts::Verdict::welcome);
  CHECK(counts.enter(client) == ClientCounts::Verdict::too_many_handshakes);
  counts.opened(client);
  CHECK(counts.enter(client) == ClientCounts::Verdict::welcome);
  counts.leave(client, true);
  counts.leave(client, false);
  counts.leave(client, false);
  CHECK(counts.clients() == 0);
}

TEST_CASE("a client is an IPv4 address in either form, or an IPv6 network of 64 bits") {
  ClientCounts counts({.connections_max = 1, .handshakes_max = 0});
  const auto full = [&](const char* address) {
    return counts.enter(endpoint(address)) == ClientCounts::Verdict::too_many_connections;
  };
  CHECK_FALSE(full("192.0.2.1"));
  CHECK(full("::ffff:192.0.2.1"));
  CHECK_FALSE(full("::ffff:192.0.2.2"));
  CHECK_FALSE(full("2001:db8:0:1::1"));
  CHECK(full("2001:db8:0:1:ffff::2"));
  CHECK_FALSE(full("2001:db8:0:2::1"));
  CHECK_FALSE(full("2001:db8::"));
}

TEST_CASE("without limits, and for unix sockets, nobody is counted") {
  ClientCounts none({});
  CHECK_FALSE(none.active());
  CHECK(none.enter(endpoint("192.0.2.1")) == ClientCounts::Verdict::welcome);
  ClientCounts counts({.connections_max = 1, .handshakes_max = 1});
  CHECK(counts.enter(net::Endpoint()) == ClientCounts::Verdict::welcome);
  CHECK(counts.enter(net::Endpoint()) == ClientCounts::Verdict::welcome);
  CHECK(none.clients() + counts.clients() == 0);
}

TEST_CASE("the clients for which most waits are evicted first, and no more than is needed") {
  House house;
  const auto open = [&] {
    auto client = house.connect();
    client->send(upgrade());
    house.head(*client);
    return client;
  };
  const auto idle = open();
  const auto slow = open();
  house.script.last->send(MessageType::binary, as_bytes(std::string(8'000'000, 'x')));
  const auto slower = open();
  house.script.last->send(MessageType::binary, as_bytes(std::string(16'000'000, 'x')));
  house.loop.run_for(50);

  house.worker->evict(1);
  house.until([&] { return house.counters->evicted.get() == 1; });
  house.until([&] {
    return house.closed(metrics::Initiator::gateway, metrics::CloseReason::overload) == 1;
  });
  CHECK(house.open.load() == 2);
  house.worker->evict(1'000'000'000);
  house.until([&] { return house.open.load() == 1; });  // the idle one holds nothing
  CHECK(house.counters->evicted.get() == 2);
}

TEST_CASE("an evicted client is counted once, and takes along what waits for its upstream") {
  House house;
  house.script.outlives = true;
  house.script.held = 1'000'000;
  const auto slow = house.connect();
  slow->send(upgrade());
  house.head(*slow);
  house.script.last->send(MessageType::binary, as_bytes(std::string(8'000'000, 'x')));
  house.loop.run_for(50);
  // A worker that was busy hears of several evictions in one turn.
  house.worker->evict(1'000'000'000);
  house.worker->evict(1'000'000'000);
  house.until([&] { return house.script.has("; cut; close 1006"); });
  CHECK(house.counters->evicted.get() == 1);
  house.script.done();
}

TEST_CASE("short of memory, new clients are refused with 503, and those that are in go on") {
  House house;
  const auto client = house.connect();
  client->send(upgrade());
  house.head(*client);
  house.shared.overload.store(OverloadLevel::refuse);
  const auto refused = house.connect();
  refused->send(upgrade());
  CHECK(house.head(*refused).starts_with("HTTP/1.1 503 "));
  client->send(house.peer.text("still here"));
  house.until([&] { return house.script.told.ends_with("text 'still here'"); });
}
