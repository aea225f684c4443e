#include "upstreams/dial.h"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "support/own_network.h"
#include "unit/upstreams/scene.h"

using namespace sluice;
using namespace sluice::test;
using namespace sluice::upstreams;
using metrics::ConnectFailure;

namespace {

struct Scene final : WorkerScene, Dial::Owner {
  // `addresses` of the endpoints, in the order in which they are tried.
  explicit Scene(const std::vector<std::string>& addresses) {
    config.balance = config::Balance::round_robin;
    for (const std::string& address : addresses) config.endpoints.push_back({address});
  }
  ~Scene() {
    dial.reset();
    outcome.reset();
  }

  void start(DialOptions options = {}) {
    if (upstream == nullptr) upstream = Upstream::create("up", config).value();
    dial = std::make_unique<Dial>(context, upstream, std::move(options), *this);
    CHECK_FALSE(told());
  }
  bool told() const { return outcome || failure; }
  void run() {
    loop.run_until([this] { return told(); });
  }
  // As run(), while the time passes that is waited for.
  void run_on() {
    loop.run_until([this] {
      pass(TimerWheel::tick_ms);
      return told();
    });
  }

  void on_dialled(Dialled dialled) override {
    CHECK_FALSE(told());
    dialled.transport->set_owner(transport_owner);
    outcome = std::move(dialled);
    if (retire) turn.retire(std::move(dial));
  }
  void on_dial_failed(const DialFailure& how) override {
    CHECK_FALSE(told());
    failure = how;
    if (retire) turn.retire(std::move(dial));
  }

  Endpoint& at(std::size_t i) const { return *upstream->endpoints()[i]; }
  std::uint64_t failures(std::size_t i, ConnectFailure reason) const {
    return at(i).counters().failures[static_cast<std::size_t>(reason)].get();
  }
  std::uint64_t active(std::size_t i) const { return at(i).counters().active.get(); }
  std::uint64_t retries() const { return upstream->counters().retries.get(); }

  config::Upstream config;
  std::shared_ptr<Upstream> upstream;
  std::unique_ptr<Dial> dial;
  Recorder transport_owner;
  std::optional<Dialled> outcome;
  std::optional<DialFailure> failure;
  bool retire = false;
};

// Connections to this upstream stand, and then nothing comes: the server knows no TLS.
void make_silent(config::Upstream& config) {
  config.tls.emplace();
  config.tls->verify = false;
}

}  // namespace

TEST_CASE("dial: a connection stands, is counted and holds a lease") {
  Server server;
  Scene scene({server.address()});
  scene.start();
  scene.run();
  REQUIRE(scene.outcome);
  CHECK(scene.outcome->lease.endpoint() == &scene.at(0));
  CHECK(scene.active(0) == 1);
  CHECK(scene.at(0).counters().connects.get() == 1);
  CHECK(scene.retries() == 0);
  std::uint64_t observed = 0;
  for (const auto& bucket : scene.upstream->counters().connect_buckets) observed += bucket.get();
  CHECK(observed == 1);

  ClientEnd peer(server.accept_now());
  peer.send("Hello");
  scene.outcome->transport->read(true);
  scene.loop.run_until([&] { return scene.transport_owner.received == "Hello"; });
  scene.outcome.reset();
  CHECK(scene.active(0) == 0);
}

TEST_CASE("dial: the prologue goes first") {
  Server server;
  Scene scene({server.address()});
  scene.start({.prologue = "PROXY TCP4 ...\r\n"});
  scene.run();
  REQUIRE(scene.outcome);
  scene.outcome->transport->output().append(as_bytes("Hello"));
  scene.outcome->transport->flush();
  ClientEnd peer(server.accept_now());
  CHECK(peer.read(21) == "PROXY TCP4 ...\r\nHello");
}

TEST_CASE("dial: an endpoint that refuses costs an attempt, not the client") {
  Refusing down;
  Server server;
  Scene scene({down.address(), server.address()});
  scene.start();
  scene.run();
  REQUIRE(scene.outcome);
  CHECK(scene.outcome->lease.endpoint() == &scene.at(1));
  CHECK(scene.failures(0, ConnectFailure::refused) == 1);
  CHECK(scene.active(0) == 0);
  CHECK(scene.retries() == 1);
}

TEST_CASE("dial: when all refuse it is over after connect_attempts, over different endpoints") {
  Refusing first;
  Refusing second;
  Refusing third;
  Scene scene({first.address(), second.address(), third.address()});
  scene.config.connect_attempts = 2;
  scene.start();
  scene.run();
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::refused);
  CHECK(scene.failure->http_status() == 502);
  CHECK(scene.failure->detail.starts_with(second.address() + ": "));
  CHECK(scene.failures(0, ConnectFailure::refused) == 1);
  CHECK(scene.failures(1, ConnectFailure::refused) == 1);
  CHECK(scene.failures(2, ConnectFailure::refused) == 0);
  CHECK(scene.active(0) + scene.active(1) + scene.active(2) == 0);
}

TEST_CASE("dial: the only endpoint gets a second chance, after a pause") {
  Refusing coming;
  Scene scene({coming.address()});
  scene.start();
  scene.loop.run_until([&] { return scene.failures(0, ConnectFailure::refused) == 1; });
  scene.loop.run_for(5);
  CHECK_FALSE(scene.told());
  CHECK(scene.retries() == 0);
  coming.listen();
  scene.run_on();
  CHECK(scene.outcome);
  CHECK(scene.retries() == 1);
}

TEST_CASE("dial: the only endpoint is asked connect_attempts times") {
  Refusing down;
  Scene scene({down.address()});
  scene.start();
  scene.run_on();
  REQUIRE(scene.failure);
  CHECK(scene.failures(0, ConnectFailure::refused) == 3);
  CHECK(scene.retries() == 2);
  CHECK(scene.upstream->is_up(scene.at(0)));
}

TEST_CASE("dial: with one attempt there is no pause and no second chance") {
  Refusing down;
  Scene scene({down.address()});
  scene.config.connect_attempts = 1;
  scene.start();
  scene.run();
  CHECK(scene.failure);
  CHECK(scene.failures(0, ConnectFailure::refused) == 1);
}

TEST_CASE("dial: an attempt that takes longer than connect_timeout is given up for another") {
  Server silent;
  Server other;
  Scene scene({silent.address(), other.address()});
  make_silent(scene.config);
  scene.config.connect_timeout_ms = 1'000;
  scene.start({.timeout_ms = 10'000});
  scene.loop.run_for(20);
  scene.pass(900);
  CHECK(scene.active(0) == 1);
  scene.pass(300);
  CHECK(scene.active(0) == 0);
  CHECK(scene.active(1) == 1);
  CHECK(scene.failures(0, ConnectFailure::timeout) == 1);
  scene.run_on();
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::timeout);
  CHECK(scene.failure->http_status() == 504);
  CHECK(scene.failures(0, ConnectFailure::timeout) == 2);
  CHECK(scene.failures(1, ConnectFailure::timeout) == 1);
}

TEST_CASE("dial: all attempts together end at timeout_ms") {
  Server silent;
  Scene scene({silent.address()});
  make_silent(scene.config);
  scene.config.connect_timeout_ms = 5'000;
  scene.start({.timeout_ms = 2'000});
  scene.loop.run_for(20);
  scene.pass(1'900);
  CHECK_FALSE(scene.told());
  scene.pass(200);
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::timeout);
  CHECK(scene.failures(0, ConnectFailure::timeout) == 1);
  CHECK(scene.active(0) == 0);
}

TEST_CASE("dial: timeout_ms holds between two attempts as well") {
  Refusing down;
  Scene scene({down.address()});
  scene.start({.timeout_ms = 50});
  scene.loop.run_until([&] { return scene.failures(0, ConnectFailure::refused) == 1; });
  scene.loop.run_for(5);
  scene.pass(200);
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::refused);
  CHECK(scene.failures(0, ConnectFailure::refused) == 1);
}

TEST_CASE("dial: a server that breaks the TLS handshake is another endpoint's chance") {
  Server breaking;
  Scene scene({breaking.address()});
  make_silent(scene.config);
  scene.config.connect_attempts = 1;
  scene.start();
  int accepted = -1;
  scene.loop.run_until([&] { return (accepted = breaking.accept_now()) >= 0; });
  ClientEnd peer(accepted);
  peer.send("this is no TLS");
  peer.shutdown();
  scene.run();
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::tls);
  CHECK(scene.failure->http_status() == 502);
  CHECK(scene.failures(0, ConnectFailure::tls) == 1);
}

TEST_CASE("dial: every address of an endpoint is tried in one attempt") {
  Refusing down;
  Server server;
  Scene scene({"backend:80"});
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.at(0).set_addresses(
      {*net::Address::parse(down.address()), *net::Address::parse(server.address())});
  scene.start();
  scene.run();
  CHECK(scene.outcome);
  CHECK(scene.retries() == 0);
}

TEST_CASE("dial: several addresses of one name are taken in turn") {
  Server one;
  Server two;
  Scene scene({"backend:80"});
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.at(0).set_addresses(
      {*net::Address::parse(one.address()), *net::Address::parse(two.address())});
  for (const Server* const server : {&one, &two, &one, &two}) {
    scene.start();
    scene.run();
    REQUIRE(scene.outcome);
    CHECK(scene.outcome->transport->peer_address()->to_string() == server->address());
    scene.outcome.reset();
  }
}

TEST_CASE("dial: an attempt that follows one which took too long begins with the next address") {
  Server silent;
  Server other;
  Scene scene({"backend:80"});
  make_silent(scene.config);
  scene.config.connect_timeout_ms = 1'000;
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.at(0).set_addresses(
      {*net::Address::parse(silent.address()), *net::Address::parse(other.address())});
  scene.start({.timeout_ms = 60'000});
  scene.loop.run_for(20);
  const Fd first(silent.accept_now());
  CHECK(first.get() >= 0);
  scene.at(0).addresses_in_turn();  // somebody else's attempt
  scene.pass(1'400);
  scene.loop.run_for(20);
  CHECK(silent.accept_now() < 0);
  const Fd second(other.accept_now());
  CHECK(second.get() >= 0);
}

TEST_CASE("dial: an address that does not answer leaves time for the others, and comes last then") {
  const Dropping silent;
  const Server server;
  Scene scene({"backend:80"});
  scene.config.connect_timeout_ms = 2'000;
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.at(0).set_addresses({silent.address(), *net::Address::parse(server.address())});
  scene.start();
  scene.loop.run_for(5);
  scene.pass(900);
  CHECK_FALSE(scene.told());
  scene.pass(200);
  for (int i = 0; i < 4; ++i) {
    scene.run();  // no time passes
    REQUIRE(scene.outcome);
    CHECK(scene.outcome->transport->peer_address()->to_string() == server.address());
    scene.outcome.reset();
    scene.start();
  }
  CHECK(scene.retries() == 0);
}

TEST_CASE("dial: an address behind one that refuses has a share of its own, and no more") {
  const Refusing down;
  const Dropping silent;
  const Server server;
  const auto address = [](const std::string& text) { return *net::Address::parse(text); };
  for (const bool has_another : {true, false}) {
    Scene scene({"backend:80"});
    scene.config.connect_attempts = 1;
    scene.config.connect_timeout_ms = 1'200;
    scene.upstream = Upstream::create("up", scene.config).value();
    std::vector<net::Address> addresses = {address(down.address()), silent.address()};
    if (has_another) addresses.push_back(address(server.address()));
    scene.at(0).set_addresses(addresses);
    scene.start();
    scene.end_turn();
    scene.pass(300);  // and then the loop hears of the first
    scene.loop.run_for(5);
    scene.pass(400);
    scene.loop.run_for(5);
    CHECK_FALSE(scene.told());
    if (has_another) {
      scene.pass(200);  // 500 ms of the second are over
      scene.run();
      CHECK(scene.outcome.has_value());
    } else {
      scene.pass(400);
      CHECK_FALSE(scene.told());
      scene.pass(200);
      REQUIRE(scene.failure);
      CHECK(scene.failure->http_status() == 504);
    }
  }
}

TEST_CASE("dial: a name that is not known yet is waited for") {
  Server server;
  Scene scene({"backend:80"});
  scene.start();
  scene.loop.run_for(5);
  scene.pass(1'000);
  CHECK_FALSE(scene.told());
  CHECK(scene.active(0) == 1);
  scene.at(0).set_addresses({*net::Address::parse(server.address())});
  scene.pass(200);
  scene.run();
  CHECK(scene.outcome);
}

TEST_CASE("dial: a name that stays unknown is `unresolved` after connect_timeout") {
  Scene scene({"backend:80"});
  scene.config.connect_timeout_ms = 1'000;
  scene.config.connect_attempts = 1;
  scene.start();
  scene.loop.run_for(5);
  scene.pass(900);
  CHECK_FALSE(scene.told());
  scene.pass(200);
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::unresolved);
  CHECK(scene.failure->http_status() == 502);
  CHECK(scene.failures(0, ConnectFailure::unresolved) == 1);
  CHECK(scene.active(0) == 0);
}

TEST_CASE("dial: a name that the resolver does not know fails at once") {
  Scene scene({"backend:80"});
  scene.config.connect_attempts = 1;
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.at(0).set_resolve_error("resolve backend: no such name");
  scene.start();
  scene.run();
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::unresolved);
  CHECK(scene.failure->detail == "backend:80: resolve backend: no such name");
}

TEST_CASE("dial: max_connections everywhere is a 503 and counted") {
  Server server;
  Scene scene({server.address()});
  scene.config.connections_max = 1;
  scene.upstream = Upstream::create("up", scene.config).value();
  const auto other = scene.upstream->pick("", {});
  scene.start();
  scene.run();
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::full);
  CHECK(scene.failure->http_status() == 503);
  const auto full = static_cast<std::size_t>(ConnectFailure::full);
  CHECK(scene.upstream->counters().failures[full].get() == 1);
  CHECK(scene.active(0) == 1);
}

TEST_CASE("dial: an endpoint that has failed and is full now has failed") {
  Refusing down;
  Scene scene({down.address()});
  scene.config.connections_max = 1;
  scene.start();
  scene.loop.run_until([&] { return scene.failures(0, ConnectFailure::refused) == 1; });
  scene.loop.run_for(5);
  const auto other = scene.upstream->pick("", {});
  REQUIRE(other);
  scene.run_on();
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::refused);
}

TEST_CASE("dial: no endpoint with a weight is a 503 and counted") {
  Scene scene({"127.0.0.1:1"});
  scene.config.endpoints[0].weight = 0;
  scene.start();
  scene.run();
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::no_endpoint);
  CHECK(scene.failure->http_status() == 503);
  const auto none = static_cast<std::size_t>(ConnectFailure::no_endpoint);
  CHECK(scene.upstream->counters().failures[none].get() == 1);
}

TEST_CASE("dial: without descriptors it is over at once, and no endpoint's fault") {
  Server first;
  Server second;
  Scene scene({first.address(), second.address()});
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.loop.run_for(2);
  {
    const NoDescriptors none;
    scene.start();
    scene.run();
  }
  REQUIRE(scene.failure);
  CHECK(scene.failure->reason == ConnectFailure::descriptors);
  CHECK(scene.failure->http_status() == 503);
  CHECK(scene.failures(0, ConnectFailure::descriptors) == 1);
  CHECK(scene.failures(1, ConnectFailure::descriptors) == 0);
  CHECK(scene.retries() == 0);
}

TEST_CASE("dial: without a port to connect from another endpoint is tried, and none is to blame") {
  in_own_network("40000 40000", [] {
    const Server first(5000);
    const Server second(5001);
    Scene holder({first.address()});
    holder.start();
    holder.run();
    if (!holder.outcome) return "the first: " + holder.failure->detail;

    Scene scene({first.address(), second.address()});
    scene.config.outlier_detection.consecutive_failures = 1;
    scene.start();
    scene.run();
    if (!scene.outcome) return "the second: " + scene.failure->detail;
    if (scene.failures(0, ConnectFailure::descriptors) != 1) return std::string("not counted");
    if (!scene.upstream->is_up(scene.at(0))) return std::string("it was ejected");

    Scene alone({first.address()});
    alone.start();
    alone.run_on();
    if (alone.outcome) return std::string("it stands");
    if (alone.failure->http_status() != 503) return "not 503: " + alone.failure->detail;
    return std::string();
  });
}

TEST_CASE(
    "dial: without a port to connect from no endpoint is to blame, if no address answers then") {
  in_own_network("40000 40000", [] {
    const Server server(5000);
    const Dropping silent("127.0.0.2:5000", "127.0.0.1:41000");
    Scene holder({server.address()});
    holder.start();
    holder.run();
    if (!holder.outcome) return "the first: " + holder.failure->detail;

    Scene scene({"backend:80"});
    scene.config.connect_attempts = 1;
    scene.config.connect_timeout_ms = 1'000;
    scene.upstream = Upstream::create("up", scene.config).value();
    scene.at(0).set_addresses({*net::Address::parse(server.address()), silent.address()});
    scene.start();
    scene.loop.run_for(5);
    scene.pass(900);
    if (scene.told()) return std::string("told too early");
    scene.pass(200);
    if (!scene.failure) return std::string("not told");
    if (scene.failure->http_status() != 503) return "not 503: " + scene.failure->detail;
    if (scene.failures(0, ConnectFailure::timeout) != 0) return std::string("it is to blame");
    return std::string();
  });
}

TEST_CASE("dial: a hash key chooses the endpoint") {
  std::vector<std::unique_ptr<Server>> servers;
  std::vector<std::string> addresses;
  for (int i = 0; i < 4; ++i) {
    servers.push_back(std::make_unique<Server>());
    addresses.push_back(servers.back()->address());
  }
  for (int i = 0; i < 8; ++i) {
    Scene scene(addresses);
    scene.config.balance = config::Balance::hash;
    const std::string key = "client " + std::to_string(i);
    scene.start({.hash_key = key});
    scene.run();
    REQUIRE(scene.outcome);
    CHECK(scene.outcome->lease.endpoint() == scene.upstream->owner_of(key));
  }
}

TEST_CASE("dial: destroyed at any moment it gives the attempt up and says nothing") {
  Server silent;
  Refusing down;
  for (const int moment : {0, 1, 2, 3}) {
    CAPTURE(moment);
    Scene scene({moment == 3 ? "backend:80" : moment == 2 ? down.address() : silent.address()});
    make_silent(scene.config);
    scene.start();
    if (moment > 0) scene.loop.run_for(10);  // connecting, pausing, resolving
    scene.dial.reset();
    CHECK(scene.active(0) == 0);
    scene.loop.run_for(5);
    scene.pass(20'000);
    CHECK_FALSE(scene.told());
  }
}

TEST_CASE("dial: the owner may retire it inside of its events") {
  Server server;
  Scene good({server.address()});
  good.retire = true;
  good.start();
  good.run();
  good.end_turn();
  CHECK(good.outcome);
  CHECK(good.active(0) == 1);

  Refusing down;
  Scene bad({down.address()});
  bad.config.connect_attempts = 2;
  bad.retire = true;
  bad.start();
  bad.run_on();
  CHECK(bad.failure);
}
