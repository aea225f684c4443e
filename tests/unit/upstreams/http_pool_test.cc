#include "upstreams/http_pool.h"

#include <doctest/doctest.h>

#include "http_scene.h"
#include "support/fake_transport.h"

using namespace sluice;
using namespace sluice::test;
using upstreams::HttpPool;

namespace {

// Connections that a test gives to the pool are opened by requests.
struct PoolScene : HttpScene {
  PoolScene() {
    server.on_data = [this](Peer& peer) {
      if (!peer.ended && peer.has_head()) {
        peer.received.clear();
        peer.send(ok("", fields));
      }
    };
  }
  // Several requests at once: as many connections are kept, the last to be answered the freshest.
  void keep(std::size_t count) {
    std::vector<std::unique_ptr<ExchangeOwner>> owners;
    for (std::size_t i = 0; i < count; ++i) {
      owners.push_back(std::make_unique<ExchangeOwner>());
      start(request("GET"), *owners.back());
    }
    loop.run_until(
        [&] { return std::ranges::all_of(owners, [](const auto& owner) { return owner->over; }); });
    exchanges.clear();
  }

  std::string fields;
};

}  // namespace

TEST_CASE("pool: a finished request's connection serves the next one") {
  PoolScene scene;
  for (int i = 0; i < 5; ++i) CHECK(scene.run(scene.request("GET")) == "200; end");
  CHECK(scene.server.peers.size() == 1);
  CHECK(scene.upstream->counters().requests.get() == 5);
  CHECK(scene.upstream->counters().reused.get() == 4);
  CHECK(scene.connections() == 1);
}

TEST_CASE("pool: the connection that idled the shortest is taken first") {
  PoolScene scene;
  scene.keep(2);
  REQUIRE(scene.server.peers.size() == 2);
  Peer* freshest = nullptr;
  scene.server.on_data = [&](Peer& peer) {
    freshest = &peer;
    peer.send(ok(""));
  };
  scene.run(scene.request("GET"));
  Peer* const first = freshest;
  scene.run(scene.request("GET"));
  CHECK(first == freshest);
  CHECK(scene.server.peers.size() == 2);
}

TEST_CASE("pool: a connection that the upstream ends, breaks or writes to is dropped") {
  const std::function<void(Peer&)> ends[] = {
      [](Peer& peer) { peer.close(); },
      [](Peer& peer) { peer.reset(); },
      [](Peer& peer) { peer.shutdown(); },
      [](Peer& peer) { peer.send("HTTP/1.1 408 Request Timeout\r\n\r\n"); },
  };
  for (const auto& end : ends) {
    PoolScene scene;
    scene.keep(1);
    CHECK(scene.connections() == 1);
    end(scene.server.last());
    scene.loop.run_until([&] { return scene.connections() == 0; });
    CHECK_FALSE(scene.take_kept());
  }
}

TEST_CASE("pool: what has arrived and was not read yet is noticed by take()") {
  const std::function<void(Peer&)> arrivals[] = {
      [](Peer& peer) { peer.close(); },
      [](Peer& peer) { peer.reset(); },
      // It would be the answer to somebody's request.
      [](Peer& peer) { peer.send(ok("stray")); },
  };
  for (const auto& arrival : arrivals) {
    PoolScene scene;
    scene.keep(2);
    for (const auto& peer : scene.server.peers) arrival(*peer);  // and no turn of the loop
    CHECK_FALSE(scene.take_kept());
    scene.end_turn();
    CHECK(scene.connections() == 0);
  }
}

TEST_CASE("pool: a connection to an address that the endpoint's name has lost is not used") {
  PoolScene scene;
  const std::string port = scene.server.address().substr(scene.server.address().rfind(':'));
  scene.config.endpoints.front().address = "service.example" + port;
  scene.make_upstream();
  upstreams::Endpoint& endpoint = *scene.upstream->endpoints().front();
  const net::Address here = *net::Address::parse(scene.server.address());
  const net::Address elsewhere = *net::Address::parse("127.0.0.2" + port);
  endpoint.set_addresses({here});
  scene.keep(2);
  endpoint.set_addresses({elsewhere, here});
  CHECK(scene.take_kept());
  CHECK(scene.pool.size() == 1);
  endpoint.set_addresses({elsewhere});
  CHECK_FALSE(scene.take_kept());
  CHECK(scene.pool.size() == 0);
}

TEST_CASE("pool: no more than idle_connections_max are kept, and the oldest goes") {
  HttpScene scene;
  scene.config.idle_connections_max = 2;
  scene.make_upstream();
  std::vector<net::Transport*> given;
  for (int i = 0; i < 3; ++i) {
    auto transport = std::make_unique<FakeTransport>(scene.buffers.pool);
    given.push_back(transport.get());
    scene.pool.give_back(scene.upstream, {std::move(transport), scene.lease()}, {});
  }
  scene.end_turn();
  CHECK(scene.connections() == 2);
  for (const int expected : {2, 1}) {
    upstreams::Lease lease = scene.lease();
    auto idle = scene.pool.take(scene.upstream, lease);
    REQUIRE(idle.has_value());
    CHECK(idle->transport.get() == given[static_cast<std::size_t>(expected)]);
  }
  CHECK_FALSE(scene.take_kept());
}

TEST_CASE("pool: with idle_connections_max 0 none is kept") {
  PoolScene scene;
  scene.config.idle_connections_max = 0;
  scene.make_upstream();
  scene.keep(1);
  scene.loop.run_until([&] { return scene.connections() == 0; });
}

TEST_CASE("pool: a connection goes after idle_timeout, or earlier than the upstream says") {
  struct Case {
    const char* fields;
    std::uint64_t kept_ms;
  };
  const Case cases[] = {
      {"", 10'000},
      {"Keep-Alive: timeout=5, max=100\r\n", 4'000},
      {"Keep-Alive: max=100,Timeout=3\r\n", 2'000},
      {"Keep-Alive: timeout=600\r\n", 10'000},
      {"Keep-Alive: timeout=soon\r\n", 10'000},
      {"Keep-Alive: timeout=\r\n", 10'000},
  };
  for (const Case& c : cases) {
    CAPTURE(c.fields);
    PoolScene scene;
    scene.config.idle_timeout_ms = 10'000;
    scene.make_upstream();
    scene.fields = c.fields;
    scene.keep(1);
    scene.pass(c.kept_ms - 500);
    CHECK(scene.connections() == 1);
    scene.pass(1'000);
    CHECK(scene.connections() == 0);
    CHECK_FALSE(scene.take_kept());
  }
}

TEST_CASE("pool: a connection that the upstream keeps for a second or less is not kept") {
  for (const char* fields : {"Keep-Alive: timeout=1\r\n", "Keep-Alive: timeout=0\r\n"}) {
    PoolScene scene;
    scene.fields = fields;
    scene.keep(1);
    scene.loop.run_until([&] { return scene.connections() == 0; });
  }
}

TEST_CASE("pool: connections to an endpoint that went down are not used while another is up") {
  PoolScene scene;
  ScriptedUpstream other(scene.loop.loop);
  other.on_data = scene.server.on_data;
  scene.config.endpoints.push_back({.address = other.address()});
  scene.config.balance = config::Balance::round_robin;
  scene.config.health_check.emplace().unhealthy_threshold = 1;
  scene.make_upstream();
  for (int i = 0; i < 2; ++i) CHECK(scene.run(scene.request("GET")) == "200; end");
  upstreams::Endpoint& down = *scene.upstream->endpoints().front();
  scene.upstream->report_check(down, false);
  for (int i = 0; i < 4; ++i) {
    upstreams::Lease lease = scene.lease();
    CHECK(lease.endpoint() != &down);
  }
  scene.pool.clear();
  other.peers.clear();
}

TEST_CASE("pool: kept connections do not stand in the way of balancing, nor of max_connections") {
  PoolScene scene;
  ScriptedUpstream other(scene.loop.loop);
  other.on_data = scene.server.on_data;
  scene.config.endpoints.push_back({.address = other.address()});
  scene.config.balance = config::Balance::round_robin;
  scene.config.connections_max = 1;
  scene.make_upstream();
  for (int i = 0; i < 6; ++i) CHECK(scene.run(scene.request("GET")) == "200; end");
  CHECK(scene.pool.size() == 2);
  CHECK(scene.upstream->counters().reused.get() == 4);
  for (const auto& endpoint : scene.upstream->endpoints()) {
    CHECK(endpoint->counters().connects.get() == 1);
    CHECK(endpoint->counters().active.get() == 0);
  }
  scene.pool.clear();
  other.peers.clear();
}

TEST_CASE("pool: with lb: hash only the key's own endpoint will do") {
  PoolScene scene;
  ScriptedUpstream other(scene.loop.loop);
  other.on_data = scene.server.on_data;
  scene.config.endpoints.push_back({.address = other.address()});
  scene.config.balance = config::Balance::hash;
  scene.make_upstream();

  std::map<const upstreams::Endpoint*, std::string> keys;  // one of each endpoint
  for (int i = 0; keys.size() < 2 && i < 1000; ++i) {
    const std::string key = "key" + std::to_string(i);
    keys.emplace(scene.upstream->owner_of(key), key);
  }
  REQUIRE(keys.size() == 2);
  const auto& [one, key] = *keys.begin();
  const auto& [two, other_key] = *keys.rbegin();
  upstreams::HttpRequest request = scene.request("GET");
  request.hash_key = key;
  CHECK(scene.run(std::move(request)) == "200; end");

  upstreams::Lease not_kept = std::move(*scene.upstream->pick(other_key, {}));
  CHECK_FALSE(scene.pool.take(scene.upstream, not_kept).has_value());
  CHECK(not_kept.endpoint() == two);
  upstreams::Lease lease = std::move(*scene.upstream->pick(key, {}));
  auto idle = scene.pool.take(scene.upstream, lease);
  REQUIRE(idle.has_value());
  CHECK(lease.endpoint() == nullptr);
  CHECK(idle->lease.endpoint() == one);
  CHECK(idle->lease.endpoint() != two);
  retire(scene.turn, std::move(*idle));
  scene.end_turn();
  other.peers.clear();
}

TEST_CASE("pool: clear() closes them all") {
  PoolScene scene;
  scene.keep(3);
  scene.pool.clear();
  CHECK(scene.connections() == 0);
  scene.loop.run_until([&] {
    return std::ranges::all_of(scene.server.peers, [](const auto& peer) { return peer->ended; });
  });
}
