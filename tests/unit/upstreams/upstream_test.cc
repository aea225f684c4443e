#include "upstreams/upstream.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/log_lines.h"

using namespace sluice;
using namespace sluice::upstreams;
using metrics::ConnectFailure;

namespace {

// An upstream with endpoints a:1, b:1, ..., and the clock that it goes by.
struct Scene {
  explicit Scene(config::Upstream config) {
    auto created = Upstream::create("backend", std::move(config), [this] { return now_ms.load(); });
    REQUIRE(created);
    upstream = *created;
  }

  Endpoint& at(std::size_t i) { return *upstream->endpoints()[i]; }

  // The index of the endpoint that has been picked; the lease is kept.
  std::size_t pick(std::string_view key = "", std::vector<const Endpoint*> tried = {}) {
    auto picked = upstream->pick(key, tried);
    REQUIRE(picked);
    leases.push_back(std::move(*picked));
    return index(*leases.back().endpoint());
  }
  std::size_t pick_and_release(std::string_view key = "") {
    const std::size_t picked = pick(key);
    leases.pop_back();
    return picked;
  }
  // How many of `count` picks fell to each endpoint.
  std::vector<int> picks(int count, bool keep = false) {
    std::vector<int> counts(upstream->endpoints().size());
    for (int i = 0; i < count; ++i) ++counts[keep ? pick() : pick_and_release()];
    return counts;
  }

  std::size_t index(const Endpoint& endpoint) {
    std::size_t i = 0;
    while (upstream->endpoints()[i].get() != &endpoint) ++i;
    return i;
  }

  void fail(std::size_t i, int times = 1) {
    for (int n = 0; n < times; ++n) upstream->report_failure(at(i), ConnectFailure::refused);
  }

  // So many checks; whether report_check() returned true for one of them.
  bool check(std::size_t i, bool healthy, int times) {
    bool told = false;
    for (int n = 0; n < times; ++n) told = upstream->report_check(at(i), healthy) || told;
    return told;
  }

  std::atomic<std::uint64_t> now_ms{1'000'000};
  std::shared_ptr<Upstream> upstream;
  std::vector<Lease> leases;
};

config::Upstream with_weights(std::vector<std::uint32_t> weights,
                              config::Balance balance = config::Balance::least_connections) {
  config::Upstream config;
  config.balance = balance;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    config.endpoints.push_back({"127.0.0." + std::to_string(i + 1) + ":80", weights[i]});
  }
  return config;
}

config::Upstream with_health_check(config::Upstream config) {
  config.health_check.emplace();
  config.health_check->healthy_threshold = 2;
  config.health_check->unhealthy_threshold = 3;
  return config;
}

void check_near(int value, double expected, double tolerance) {
  CHECK_MESSAGE(std::abs(value - expected) <= tolerance, value, " instead of about ", expected);
}

std::string error_of(const std::string& address) {
  config::Upstream config;
  config.endpoints.push_back({address});
  const auto created = Upstream::create("backend", config);
  return created ? "" : created.error().message;
}

}  // namespace

TEST_CASE("addresses: literals and localhost need no resolver, names do") {
  struct Row {
    const char* address;
    const char* host;
    std::uint16_t port;
    std::vector<std::string> addresses;
  };
  const std::vector<Row> rows = {
      {"10.0.0.5:8080", "10.0.0.5", 8080, {"10.0.0.5:8080"}},
      {"[::1]:80", "::1", 80, {"[::1]:80"}},
      {"localhost:81", "localhost", 81, {"127.0.0.1:81", "[::1]:81"}},
      {"unix:/run/app.sock", "", 0, {"unix:/run/app.sock"}},
      {"backend:65535", "backend", 65535, {}},
      {"a-b_c.example.:1", "a-b_c.example.", 1, {}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.address);
    config::Upstream config;
    config.endpoints.push_back({row.address});
    const auto upstream = Upstream::create("backend", config);
    REQUIRE(upstream);
    const Endpoint& endpoint = *(*upstream)->endpoints()[0];
    CHECK(endpoint.name() == row.address);
    CHECK(endpoint.host() == row.host);
    CHECK(endpoint.port() == row.port);
    CHECK(endpoint.needs_resolving() == row.addresses.empty());
    std::vector<std::string> addresses;
    for (const net::Address& address : endpoint.addresses()) {
      addresses.push_back(address.to_string());
    }
    CHECK(addresses == row.addresses);
    CHECK(endpoint.counters().up.get() == 1);
  }
}

TEST_CASE("addresses: those of a name are taken in turn, and those that have failed come last") {
  config::Upstream config;
  config.endpoints = {{"backend:80"}};
  const auto upstream = Upstream::create("backend", config).value();
  Endpoint& endpoint = *upstream->endpoints()[0];
  const auto address = [](int i) {
    return *net::Address::parse("10.0.0." + std::to_string(i) + ":80");
  };
  const auto order = [&] {
    std::string all;
    for (const auto& each : endpoint.addresses_in_turn()) all += each.to_string()[7];
    return all;
  };
  const std::vector all = {address(1), address(2), address(3)};
  endpoint.set_addresses(all);
  CHECK(order() == "123");
  CHECK(order() == "231");
  endpoint.put_last(std::vector{address(2), address(9)});
  endpoint.put_last(std::vector{address(2)});
  CHECK(order() == "132");
  CHECK(order() == "312");
  endpoint.put_last(std::vector{address(1)});
  CHECK(order() == "321");
  CHECK(order() == "321");
  endpoint.put_last(std::vector{address(3)});  // now all have
  CHECK(order() == "213");
  endpoint.put_last(std::vector{address(1), address(2)});
  endpoint.set_addresses(all);
  CHECK(order() == "231");
}

TEST_CASE("addresses: localhost is 127.0.0.1 first, whatever has failed") {
  config::Upstream config;
  config.endpoints = {{"localhost:80"}};
  const auto upstream = Upstream::create("backend", config).value();
  Endpoint& endpoint = *upstream->endpoints()[0];
  for (int i = 0; i < 3; ++i) {
    const auto addresses = endpoint.addresses_in_turn();
    REQUIRE(addresses.size() == 2);
    CHECK(addresses[0].to_string() == "127.0.0.1:80");
    endpoint.put_last(std::span(addresses).first(1));
  }
}

TEST_CASE("addresses: what is no address is refused with a reason") {
  for (const char* address :
       {"", "backend", "backend:", "backend:0", "backend:65536", "backend:80x", ":80", "::1:80",
        "[backend]:80", "[::1:80", "back end:80", "back\tend:80", "a/b:80", "user@host:80",
        "unix:", "[]:80", "b\xc3\xa4h:80"}) {
    CAPTURE(address);
    CHECK(error_of(address).find('"' + std::string(address) + '"') != std::string::npos);
  }
  CHECK(error_of(std::string(254, 'a') + ":80") != "");
  CHECK(error_of(std::string(253, 'a') + ":80") == "");
  CHECK(error_of(std::string("a\0b:80", 6)) != "");
  CHECK(error_of("unix:/" + std::string(200, 'a')) != "");
}

TEST_CASE("an upstream has at least one endpoint, and none twice") {
  CHECK_FALSE(Upstream::create("backend", config::Upstream{}));
  config::Upstream config;
  config.endpoints = {{"a:1"}, {"a:1"}};
  const auto created = Upstream::create("backend", config);
  REQUIRE_FALSE(created);
  CHECK(created.error().message == "\"a:1\" is there twice");
}

TEST_CASE("TLS: files are read at once, and a unix socket needs a name to verify") {
  config::Upstream config;
  config.endpoints.push_back({"unix:/run/app.sock"});
  config.tls.emplace();
  CHECK_FALSE(Upstream::create("backend", config));
  config.tls->server_name = "app.example";
  const auto upstream = Upstream::create("backend", config);
  REQUIRE(upstream);
  CHECK((*upstream)->tls() != nullptr);
  CHECK((*upstream)->server_name(*(*upstream)->endpoints()[0]) == "app.example");
  config.tls->ca_file = "/nowhere/ca.pem";
  const auto broken = Upstream::create("backend", config);
  REQUIRE_FALSE(broken);
  CHECK(broken.error().message.find("/nowhere/ca.pem") != std::string::npos);
}

TEST_CASE("the server name is the endpoint's host unless one is given") {
  Scene scene(with_weights({1}));
  CHECK(scene.upstream->server_name(scene.at(0)) == "127.0.0.1");
  CHECK(scene.upstream->tls() == nullptr);
}

TEST_CASE("a lease counts its endpoint as active from pick to release, once") {
  Scene scene(with_weights({1}));
  const auto active = [&] { return scene.at(0).counters().active.get(); };
  {
    auto lease = scene.upstream->pick("", {});
    REQUIRE(lease);
    CHECK(active() == 1);
    Lease moved(std::move(*lease));
    CHECK(active() == 1);
    Lease assigned;
    assigned = std::move(moved);
    CHECK(moved.endpoint() == nullptr);
    CHECK(assigned.endpoint() == &scene.at(0));
    CHECK(active() == 1);
    auto second = scene.upstream->pick("", {});
    CHECK(active() == 2);
    assigned = std::move(*second);  // gives the first back
    CHECK(active() == 1);
  }
  CHECK(active() == 0);
}

TEST_CASE("a lease keeps its upstream") {
  config::Upstream config = with_weights({1});
  std::weak_ptr<Upstream> weak;
  Lease lease;
  {
    const auto upstream = Upstream::create("backend", config);
    REQUIRE(upstream);
    weak = *upstream;
    lease = std::move(*(*upstream)->pick("", {}));
  }
  CHECK_FALSE(weak.expired());
  lease.release();
  CHECK(weak.expired());
}

TEST_CASE("least_connections: the emptiest, in proportion to the weights") {
  Scene scene(with_weights({1, 1, 1}));
  CHECK(scene.picks(9, true) == std::vector<int>{3, 3, 3});
  // The connections of the second end: it gets the next ones.
  std::erase_if(scene.leases, [&](const Lease& lease) { return lease.endpoint() == &scene.at(1); });
  CHECK(scene.picks(3, true) == std::vector<int>{0, 3, 0});

  Scene weighted(with_weights({1, 3}));
  CHECK(weighted.picks(400, true) == std::vector<int>{100, 300});
}

TEST_CASE("least_connections: equals take turns, and not always the first") {
  Scene scene(with_weights({1, 1, 1}));
  CHECK(scene.picks(300) == std::vector<int>{100, 100, 100});
}

TEST_CASE("round_robin: smooth, by weight, whatever the connections are") {
  Scene scene(with_weights({5, 1, 1}, config::Balance::round_robin));
  std::string order;
  for (int i = 0; i < 14; ++i) order += static_cast<char>('a' + scene.pick());
  CHECK(order == "aabacaaaabacaa");
}

TEST_CASE("random: everybody gets some, the fuller one of two does not") {
  Scene scene(with_weights({1, 1, 1, 1}, config::Balance::random));
  for (const int count : scene.picks(4'000)) check_near(count, 1'000, 150);
  for (int i = 0; i < 10; ++i) scene.leases.emplace_back(scene.upstream, &scene.at(2));
  CHECK(scene.picks(1'000)[2] == 0);

  Scene single(with_weights({1}, config::Balance::random));
  CHECK(single.picks(10) == std::vector<int>{10});
  Scene weighted(with_weights({1, 3}, config::Balance::random));
  CHECK(weighted.picks(400, true) == std::vector<int>{100, 300});
}

TEST_CASE("hash: a key has its endpoint, the keys are spread by weight") {
  Scene scene(with_weights({1, 1, 2}, config::Balance::hash));
  std::vector<int> counts(3);
  for (int i = 0; i < 4'000; ++i) {
    const std::string key = "client " + std::to_string(i);
    const std::size_t picked = scene.pick_and_release(key);
    ++counts[picked];
    REQUIRE(scene.pick_and_release(key) == picked);
    REQUIRE(scene.upstream->owner_of(key) == &scene.at(picked));
  }
  check_near(counts[0], 1'000, 120);
  check_near(counts[1], 1'000, 120);
  check_near(counts[2], 2'000, 150);
}

// Several gateways, and the same one after a restart, send a key to the same place.
TEST_CASE("hash: whose a key is does not depend on the process") {
  std::string owners;
  Scene scene(with_weights({1, 1, 1}, config::Balance::hash));
  for (int i = 0; i < 16; ++i) {
    owners += static_cast<char>('a' + scene.pick(std::to_string(i)));
  }
  CHECK(owners == "abbcbacacbcccabb");
}

TEST_CASE("hash: an endpoint that is down moves its own keys and no others, and gets them back") {
  Scene scene(with_health_check(with_weights({1, 1, 1, 1}, config::Balance::hash)));
  const auto owners = [&] {
    std::vector<std::size_t> all;
    for (int i = 0; i < 1'000; ++i) all.push_back(scene.pick_and_release(std::to_string(i)));
    return all;
  };
  const auto before = owners();
  for (int i = 0; i < 3; ++i) scene.upstream->report_check(scene.at(2), false);
  const auto during = owners();
  std::set<std::size_t> heirs;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (before[i] == 2) heirs.insert(during[i]);
    if (before[i] != 2) REQUIRE(during[i] == before[i]);
  }
  CHECK(heirs == std::set<std::size_t>{0, 1, 3});
  for (int i = 0; i < 2; ++i) scene.upstream->report_check(scene.at(2), true);
  CHECK(owners() == before);
}

TEST_CASE("hash: without a key it is least_connections, and any endpoint will do") {
  Scene scene(with_weights({1, 1, 1}, config::Balance::hash));
  CHECK(scene.picks(300) == std::vector<int>{100, 100, 100});
  CHECK(scene.upstream->owner_of("") == nullptr);
  Scene other(with_weights({1, 1, 1}));
  CHECK(other.upstream->owner_of("key") == nullptr);
}

TEST_CASE("tried endpoints are not picked again") {
  for (const config::Balance balance :
       {config::Balance::least_connections, config::Balance::round_robin, config::Balance::random,
        config::Balance::hash}) {
    Scene scene(with_weights({1, 1, 1}, balance));
    for (int i = 0; i < 50; ++i) {
      const std::size_t first = scene.pick("key");
      const std::size_t second = scene.pick("key", {&scene.at(first)});
      const std::size_t third = scene.pick("key", {&scene.at(first), &scene.at(second)});
      CHECK(std::set<std::size_t>{first, second, third}.size() == 3);
    }
    const std::vector<const Endpoint*> all = {&scene.at(0), &scene.at(1), &scene.at(2)};
    const auto none = scene.upstream->pick("key", all);
    REQUIRE_FALSE(none);
    CHECK(none.error() == Upstream::NoEndpoint::all_down);
  }
}

TEST_CASE("weight 0: no new connections, even if there is nobody else") {
  for (const config::Balance balance :
       {config::Balance::least_connections, config::Balance::round_robin, config::Balance::random,
        config::Balance::hash}) {
    Scene scene(with_weights({0, 1}, balance));
    for (int i = 0; i < 20; ++i) CHECK(scene.pick(std::to_string(i)) == 1);
    scene.fail(1, 100);
    CHECK(scene.pick("key") == 1);
    Scene none(with_weights({0, 0}, balance));
    const auto picked = none.upstream->pick("key", {});
    REQUIRE_FALSE(picked);
    CHECK(picked.error() == Upstream::NoEndpoint::all_down);
  }
}

TEST_CASE("max_connections: a full endpoint gets none, and all full is an answer of its own") {
  for (const config::Balance balance :
       {config::Balance::least_connections, config::Balance::round_robin, config::Balance::random,
        config::Balance::hash}) {
    config::Upstream config = with_weights({1, 1}, balance);
    config.connections_max = 3;
    Scene scene(config);
    CHECK(scene.picks(6, true) == std::vector<int>{3, 3});
    auto picked = scene.upstream->pick("key", {});
    REQUIRE_FALSE(picked);
    CHECK(picked.error() == Upstream::NoEndpoint::all_full);
    scene.leases.pop_back();
    CHECK(scene.upstream->pick("key", {}));
  }
}

TEST_CASE("max_connections holds while many threads ask") {
  config::Upstream config = with_weights({1, 1});
  config.connections_max = 50;
  Scene scene(config);
  std::atomic<int> refused{0};  // of 4 x 1000
  std::vector<std::vector<Lease>> leases(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1'000; ++i) {
        auto picked = scene.upstream->pick("", {});
        if (!picked) {
          ++refused;
          continue;
        }
        leases[t].push_back(std::move(*picked));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(refused == 3'900);
  CHECK(scene.at(0).counters().active.get() == 50);
  CHECK(scene.at(1).counters().active.get() == 50);
}

TEST_CASE("a full upstream does not fall back on endpoints that are down") {
  config::Upstream config = with_health_check(with_weights({1, 1}));
  config.connections_max = 1;
  Scene scene(config);
  for (int i = 0; i < 3; ++i) scene.upstream->report_check(scene.at(1), false);
  CHECK(scene.pick() == 0);
  const auto picked = scene.upstream->pick("", {});
  REQUIRE_FALSE(picked);
  CHECK(picked.error() == Upstream::NoEndpoint::all_full);
}

TEST_CASE("an endpoint whose name has no address yet is the second choice") {
  config::Upstream config;
  config.endpoints = {{"backend:80"}, {"127.0.0.1:80"}};
  Scene scene(config);
  CHECK(scene.picks(10) == std::vector<int>{0, 10});
  CHECK(scene.pick("", {&scene.at(1)}) == 0);
  scene.leases.clear();
  scene.at(0).set_addresses({*net::Address::parse("127.0.0.2:80")});
  CHECK(scene.picks(10) == std::vector<int>{5, 5});
}

TEST_CASE("the resolver's error stands only where there is no good answer") {
  config::Upstream config;
  config.endpoints = {{"backend:80"}};
  Scene scene(config);
  CHECK(scene.at(0).resolve_error() == "");
  scene.at(0).set_resolve_error("no such name");
  CHECK(scene.at(0).resolve_error() == "no such name");
  scene.at(0).set_addresses({*net::Address::parse("127.0.0.2:80")});
  CHECK(scene.at(0).resolve_error() == "");
  scene.at(0).set_resolve_error("no such name");
  CHECK(scene.at(0).resolve_error() == "");
  CHECK(scene.at(0).addresses().size() == 1);
}

TEST_CASE("passive: consecutive failures eject, a success between them does not") {
  Scene scene(with_weights({1, 1}));
  scene.fail(0, 4);
  scene.upstream->report_success(scene.at(0), 100);
  scene.fail(0, 4);
  CHECK(scene.upstream->is_up(scene.at(0)));
  scene.fail(0);
  CHECK_FALSE(scene.upstream->is_up(scene.at(0)));
  CHECK(scene.at(0).counters().up.get() == 0);
  CHECK(scene.upstream->counters().ejections_connect.get() == 1);
  CHECK(scene.picks(10) == std::vector<int>{0, 10});
  const auto refused = static_cast<std::size_t>(ConnectFailure::refused);
  CHECK(scene.at(0).counters().failures[refused].get() == 9);
}

TEST_CASE("passive: what is not the endpoint's fault is counted only") {
  Scene scene(with_weights({1, 1}));
  for (int i = 0; i < 20; ++i) {
    scene.upstream->report_failure(scene.at(0), ConnectFailure::descriptors);
  }
  CHECK(scene.upstream->is_up(scene.at(0)));
  const auto index = static_cast<std::size_t>(ConnectFailure::descriptors);
  CHECK(scene.at(0).counters().failures[index].get() == 20);
}

TEST_CASE(
    "passive: an ejection ends by itself; the next in a row is twice as long, up to a limit") {
  config::Upstream config = with_weights({1, 1});
  config.outlier_detection.base_ejection_time_ms = 10'000;
  config.outlier_detection.max_ejection_time_ms = 35'000;
  Scene scene(config);
  const auto check_ejection = [&](std::uint64_t span_ms) {
    scene.fail(0, 5);
    scene.now_ms += span_ms - 1;
    CHECK_FALSE(scene.upstream->is_up(scene.at(0)));
    CHECK(scene.picks(4) == std::vector<int>{0, 4});
    CHECK(scene.at(0).counters().up.get() == 0);
    scene.now_ms += 1;
    CHECK(scene.upstream->is_up(scene.at(0)));
    CHECK(scene.picks(4)[0] > 0);
    CHECK(scene.at(0).counters().up.get() == 1);
  };
  check_ejection(10'000);
  check_ejection(20'000);
  check_ejection(35'000);
  check_ejection(35'000);
  scene.upstream->report_success(scene.at(0), 100);
  check_ejection(10'000);
}

TEST_CASE("passive: end_ejections() shows the end without a pick") {
  Scene scene(with_weights({1, 1}));
  scene.fail(0, 5);
  scene.now_ms += 9'999;
  scene.upstream->end_ejections();
  CHECK(scene.at(0).counters().up.get() == 0);
  scene.now_ms += 1;
  scene.upstream->end_ejections();
  CHECK(scene.at(0).counters().up.get() == 1);
}

TEST_CASE("passive: two ejections end each at its own time") {
  Scene scene(with_weights({1, 1, 1, 1}));
  scene.fail(0, 5);
  scene.now_ms += 4'000;
  scene.fail(1, 5);
  scene.now_ms += 6'000;
  scene.upstream->end_ejections();
  CHECK(scene.at(0).counters().up.get() == 1);
  CHECK(scene.at(1).counters().up.get() == 0);
  scene.now_ms += 4'000;
  scene.upstream->end_ejections();
  CHECK(scene.at(1).counters().up.get() == 1);
}

TEST_CASE("passive: failures during an ejection neither count nor make it longer") {
  Scene scene(with_weights({1, 1, 1, 1}));
  scene.fail(0, 5);
  scene.now_ms += 5'000;
  scene.fail(0, 20);
  scene.now_ms += 5'000;
  CHECK(scene.upstream->is_up(scene.at(0)));
  CHECK(scene.upstream->counters().ejections_connect.get() == 1);
  scene.upstream->end_ejections();
  scene.fail(0, 4);
  CHECK(scene.upstream->is_up(scene.at(0)));
}

TEST_CASE("passive: a connection that succeeds ends the ejection") {
  Scene scene(with_weights({1, 1}));
  scene.fail(0, 5);
  scene.upstream->report_success(scene.at(0), 100);
  CHECK(scene.upstream->is_up(scene.at(0)));
  CHECK(scene.at(0).counters().up.get() == 1);
}

TEST_CASE("passive: not more than the percentage, and of few one") {
  const auto ejected = [](std::size_t count, std::uint32_t percent) {
    config::Upstream config = with_weights(std::vector<std::uint32_t>(count, 1));
    config.outlier_detection.max_ejection_percent = percent;
    Scene scene(config);
    std::size_t down = 0;
    for (std::size_t i = 0; i < count; ++i) scene.fail(i, 5);
    for (std::size_t i = 0; i < count; ++i) down += scene.upstream->is_up(scene.at(i)) ? 0 : 1;
    return down;
  };
  CHECK(ejected(1, 100) == 0);
  CHECK(ejected(2, 100) == 1);
  CHECK(ejected(2, 50) == 1);
  CHECK(ejected(3, 10) == 1);
  CHECK(ejected(3, 50) == 1);
  CHECK(ejected(4, 50) == 2);
  CHECK(ejected(10, 35) == 3);
  CHECK(ejected(10, 100) == 9);
}

TEST_CASE("passive: the last endpoint that is up stays") {
  Scene scene(with_health_check(with_weights({1, 1, 0})));
  for (int i = 0; i < 3; ++i) scene.upstream->report_check(scene.at(1), false);
  scene.fail(0, 50);
  CHECK(scene.upstream->is_up(scene.at(0)));
}

TEST_CASE("passive: consecutive_failures 0 switches it off") {
  config::Upstream config = with_weights({1, 1});
  config.outlier_detection.consecutive_failures = 0;
  Scene scene(config);
  scene.fail(0, 1'000);
  CHECK(scene.upstream->is_up(scene.at(0)));
}

TEST_CASE("active: thresholds in a row make an endpoint go down and come up") {
  Scene scene(with_health_check(with_weights({1, 1})));
  Endpoint& endpoint = scene.at(0);
  Upstream& upstream = *scene.upstream;
  CHECK_FALSE(upstream.report_check(endpoint, false));
  CHECK_FALSE(upstream.report_check(endpoint, false));
  CHECK_FALSE(upstream.report_check(endpoint, true));  // begins anew
  CHECK_FALSE(upstream.report_check(endpoint, false));
  CHECK_FALSE(upstream.report_check(endpoint, false));
  CHECK(upstream.is_up(endpoint));
  CHECK(upstream.report_check(endpoint, false));
  CHECK_FALSE(upstream.is_up(endpoint));
  CHECK(endpoint.counters().up.get() == 0);
  CHECK(upstream.counters().ejections_health.get() == 1);
  CHECK(scene.picks(10) == std::vector<int>{0, 10});

  CHECK_FALSE(upstream.report_check(endpoint, true));  // those before do not count
  CHECK_FALSE(upstream.report_check(endpoint, false));
  CHECK_FALSE(upstream.report_check(endpoint, true));
  CHECK(upstream.report_check(endpoint, true));
  CHECK(upstream.is_up(endpoint));
  CHECK(endpoint.counters().up.get() == 1);
}

TEST_CASE("if all are down, all are tried") {
  Scene scene(with_health_check(with_weights({1, 1})));
  for (std::size_t i = 0; i < 2; ++i) {
    for (int n = 0; n < 3; ++n) scene.upstream->report_check(scene.at(i), false);
  }
  CHECK(scene.picks(10) == std::vector<int>{5, 5});
  // One is up, and was tried: then the other is worth an attempt.
  for (int n = 0; n < 2; ++n) scene.upstream->report_check(scene.at(0), true);
  CHECK(scene.pick("", {&scene.at(0)}) == 1);
}

TEST_CASE("slow start: the share grows with the time since an endpoint came back") {
  config::Upstream config = with_health_check(with_weights({1, 1}, config::Balance::round_robin));
  config.slow_start_ms = 10'000;
  Scene scene(config);
  CHECK(scene.picks(100) == std::vector<int>{50, 50});  // not after the gateway's own start
  for (int i = 0; i < 3; ++i) scene.upstream->report_check(scene.at(0), false);
  scene.now_ms += 60'000;
  for (int i = 0; i < 2; ++i) scene.upstream->report_check(scene.at(0), true);
  check_near(scene.picks(1'020)[0], 20, 2);  // 0.02 : 1
  scene.now_ms += 2'500;
  check_near(scene.picks(1'000)[0], 200, 2);  // 0.25 : 1
  scene.now_ms += 2'500;
  check_near(scene.picks(900)[0], 300, 2);  // 0.5 : 1
  scene.now_ms += 5'000;
  check_near(scene.picks(100)[0], 50, 1);
}

TEST_CASE("slow start: also after an ejection, and for connections that last") {
  config::Upstream config = with_weights({1, 1});
  config.slow_start_ms = 10'000;
  Scene scene(config);
  scene.picks(200, true);
  std::erase_if(scene.leases, [&](const Lease& lease) { return lease.endpoint() == &scene.at(0); });
  scene.fail(0, 5);
  scene.now_ms += 10'000 + 1'000;  // a tenth of the slow start
  const auto counts = scene.picks(10, true);
  check_near(counts[0], 10, 1);  // up to a tenth of the other's hundred
  check_near(scene.picks(10, true)[0], 1, 1);
}

TEST_CASE("on_endpoint_down: close tells the subscribers, once for each time") {
  config::Upstream config = with_health_check(with_weights({1, 1}));
  config.on_endpoint_down = config::OnEndpointDown::close;
  Scene scene(config);
  std::string told;
  const auto tell = [&](const std::string& who) {
    return [&, who](const Endpoint& endpoint) {
      told += who + std::to_string(scene.index(endpoint)) + " ";
    };
  };
  const auto first = scene.upstream->subscribe(tell("first"));
  const auto second = scene.upstream->subscribe(tell("second"));
  CHECK(first != second);
  for (int i = 0; i < 5; ++i) scene.upstream->report_check(scene.at(0), false);
  CHECK(told == "first0 second0 ");
  for (int i = 0; i < 5; ++i) scene.upstream->report_check(scene.at(0), true);
  told.clear();
  scene.upstream->unsubscribe(first);
  scene.fail(1, 7);  // ejected
  CHECK(told == "second1 ");
}

TEST_CASE("an endpoint that is healthy again and ejected is not said to be up, but at the end") {
  Scene scene(with_health_check(with_weights({1, 1})));
  scene.fail(0, 5);
  scene.check(0, false, 3);
  test::LogLines log;
  CHECK_FALSE(scene.check(0, true, 3));
  scene.now_ms += 60'000;
  scene.upstream->end_ejections();
  CHECK(test::count_of(log.stop(), "upstream endpoint up") == 1);
}

TEST_CASE("an endpoint whose ejection is over and that fails its checks is not said to be up") {
  Scene scene(with_health_check(with_weights({1, 1})));
  scene.fail(0, 5);
  scene.check(0, false, 3);
  test::LogLines log;
  scene.now_ms += 60'000;
  scene.upstream->end_ejections();
  CHECK(log.stop() == "");
  CHECK_FALSE(scene.upstream->report_check(scene.at(0), true));
  CHECK(scene.upstream->report_check(scene.at(0), true));
}

TEST_CASE("an endpoint that is healthy again when its ejection is over is said to be up once") {
  Scene scene(with_health_check(with_weights({1, 1})));
  scene.fail(0, 5);
  scene.check(0, false, 3);
  test::LogLines log;
  scene.now_ms += 60'000;
  CHECK(scene.check(0, true, 3));
  scene.upstream->end_ejections();
  CHECK(log.stop() == "");
}

TEST_CASE("on_endpoint_down: keep tells nobody") {
  Scene scene(with_health_check(with_weights({1, 1})));
  int told = 0;
  scene.upstream->subscribe([&](const Endpoint&) { ++told; });
  for (int i = 0; i < 5; ++i) scene.upstream->report_check(scene.at(0), false);
  CHECK(told == 0);
}

TEST_CASE("successes are counted with their time to connect") {
  Scene scene(with_weights({1}));
  for (const std::uint64_t us : {0U, 250U, 251U, 5'000'000U, 5'000'001U}) {
    scene.upstream->report_success(scene.at(0), us);
  }
  const metrics::UpstreamCounters& counters = scene.upstream->counters();
  CHECK(counters.connect_buckets[0].get() == 2);
  CHECK(counters.connect_buckets[1].get() == 1);
  CHECK(counters.connect_buckets[9].get() == 1);
  CHECK(counters.connect_buckets[10].get() == 1);
  CHECK(counters.connect_us_sum.get() == 10'000'502);
  CHECK(scene.at(0).counters().connects.get() == 5);
}
