#include "upstreams/registry.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace sluice;
using namespace sluice::upstreams;

namespace {

config::Upstream with_endpoints(const std::vector<std::string>& addresses) {
  config::Upstream config;
  for (const std::string& address : addresses) config.endpoints.push_back({address});
  return config;
}

}  // namespace

TEST_CASE("registry: upstreams are found by name, and listed in its order") {
  Registry registry;
  CHECK(registry
            .load({{"web", with_endpoints({"127.0.0.1:80"})},
                   {"api", with_endpoints({"127.0.0.1:81", "127.0.0.1:82"})}})
            .empty());
  REQUIRE(registry.find("web") != nullptr);
  CHECK(registry.find("web")->endpoints()[0]->name() == "127.0.0.1:80");
  CHECK(registry.find("web") == registry.find("web"));
  CHECK(registry.find("we") == nullptr);
  CHECK(registry.find("") == nullptr);
  const auto all = registry.all();
  REQUIRE(all.size() == 2);
  CHECK(all[0]->name() == "api");
  CHECK(all[1]->name() == "web");
}

TEST_CASE("registry: every mistake is told, with the upstream's name") {
  Registry registry;
  const auto errors = registry.load({{"a", with_endpoints({"nowhere"})},
                                     {"b", with_endpoints({"127.0.0.1:80"})},
                                     {"c", with_endpoints({"127.0.0.1:0"})}});
  REQUIRE(errors.size() == 2);
  CHECK(errors[0].message == "upstream \"a\": \"nowhere\" has no valid port (1 to 65535)");
  CHECK(errors[1].message == "upstream \"c\": \"127.0.0.1:0\" has no valid port (1 to 65535)");
}

TEST_CASE("registry: on demand, one upstream for each address, and the maker hears of each once") {
  Registry registry;
  std::vector<std::string> made;
  registry.when_made([&](const auto& upstream) { made.push_back(upstream->name()); });
  const auto first = registry.on_demand("127.0.0.1:5901");
  REQUIRE(first);
  CHECK(*registry.on_demand("127.0.0.1:5901") == *first);
  CHECK(*registry.on_demand("127.0.0.1:5902") != *first);
  CHECK(made == std::vector<std::string>{"127.0.0.1:5901", "127.0.0.1:5902"});
  CHECK(registry.all().empty());
  CHECK(registry.find("127.0.0.1:5901") == nullptr);
}

TEST_CASE("registry: on demand, a bad address is an error and leaves nothing") {
  Registry registry;
  int made = 0;
  registry.when_made([&](const auto&) { ++made; });
  CHECK_FALSE(registry.on_demand("no port"));
  CHECK_FALSE(registry.on_demand(""));
  CHECK(made == 0);
}

TEST_CASE("registry: of too many on demand, the one not asked for the longest is forgotten") {
  Registry registry;
  const auto address = [](std::size_t i) {
    return "10.0." + std::to_string(i / 256) + "." + std::to_string(i % 256) + ":80";
  };
  std::weak_ptr<Upstream> first = *registry.on_demand(address(0));
  std::weak_ptr<Upstream> second = *registry.on_demand(address(1));
  auto third = *registry.on_demand(address(2));
  for (std::size_t i = 3; i < Registry::on_demand_max; ++i) {
    REQUIRE(registry.on_demand(address(i)));
  }
  CHECK_FALSE(second.expired());
  CHECK(*registry.on_demand(address(0)) == first.lock());  // asked for again: stays
  REQUIRE(registry.on_demand(address(Registry::on_demand_max)));
  CHECK_FALSE(first.expired());
  CHECK(second.expired());
  REQUIRE(registry.on_demand(address(Registry::on_demand_max + 1)));
  CHECK(third->endpoints().size() == 1);            // whoever uses it keeps it
  CHECK(*registry.on_demand(address(2)) != third);  // but the next one gets another
}

TEST_CASE("registry: what no token leads to is forgotten, and whoever uses it keeps it") {
  Registry registry;
  const std::weak_ptr<Upstream> first = *registry.on_demand("127.0.0.1:5901");
  const auto second = *registry.on_demand("127.0.0.1:5902");
  registry.forget("127.0.0.1:5901");
  registry.forget("127.0.0.1:5902");
  registry.forget("127.0.0.1:5903");
  CHECK(first.expired());
  CHECK(second->name() == "127.0.0.1:5902");
  CHECK(*registry.on_demand("127.0.0.1:5902") != second);
}

TEST_CASE("registry: in the metrics all on demand are one upstream with one endpoint") {
  Registry registry;
  CHECK(registry
            .load({{"web", with_endpoints({"127.0.0.1:80"})},
                   {"api", with_endpoints({"127.0.0.1:81", "127.0.0.1:82"})}})
            .empty());
  auto sources = registry.sources(true);
  REQUIRE(sources.size() == 3);
  CHECK(sources[0].name == "api");
  CHECK(sources[0].counters == &registry.find("api")->counters());
  REQUIRE(sources[0].endpoints.size() == 2);
  CHECK(sources[0].endpoints[1].name == "127.0.0.1:82");
  CHECK(sources[0].endpoints[1].counters == &registry.find("api")->endpoints()[1]->counters());
  CHECK(sources[2].name == "on demand");
  REQUIRE(sources[2].endpoints.size() == 1);
  CHECK(sources[2].endpoints[0].name == "other");

  const auto first = *registry.on_demand("127.0.0.1:5901");
  const auto second = *registry.on_demand("127.0.0.1:5902");
  const auto lease = first->pick("", {});
  const auto other = second->pick("", {});
  CHECK(sources[2].endpoints[0].counters->active.get() == 2);
  CHECK(sources[2].endpoints[0].counters->up.get() == 1);
  first->report_success(*first->endpoints()[0], 7);
  second->report_success(*second->endpoints()[0], 5);
  CHECK(sources[2].counters->connect_us_sum.get() == 12);

  CHECK(registry.sources(false).size() == 2);
}
