#include "metrics/collector.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/build.h"
#include "support/files.h"
#include "unit/metrics/exposition.h"
#include "unit/metrics/scene.h"

namespace sluice::metrics {
namespace {

using test::Exposition;
using test::Labels;
using test::Scene;

Number& closed(RouteCounters& route, Initiator initiator, CloseReason reason) {
  return route
      .connections_closed[static_cast<std::size_t>(initiator)][static_cast<std::size_t>(reason)];
}

// A WebSocket for which something waits.
ConnectionSlot& take(WorkerCounters& worker, std::uint32_t route, bool tls) {
  if (route < worker.routes.size()) worker.routes[route].connections_active[tls ? 1 : 0].add();
  return worker.connections.take(route);
}

void give_back(WorkerCounters& worker, ConnectionSlot& slot, bool tls) {
  worker.routes[slot.route.load()].connections_active[tls ? 1 : 0].subtract();
  worker.connections.give_back(slot);
}

Number& handshakes(RouteCounters& route, HandshakeResult result) {
  return route.handshakes[static_cast<std::size_t>(result)];
}

// An upstream with two endpoints: one does its work, the other refused until it was ejected.
void play_upstream(Scene::Service& service) {
  const auto fail = [](auto& counters, ConnectFailure failure) {
    counters.failures[static_cast<std::size_t>(failure)].add();
  };
  EndpointCounters& good = service.endpoints[0];
  good.up.set(1);
  good.active.add(2);
  good.connects.add(3);
  for (const std::size_t bucket : {0U, 4U, 4U}) service.upstream.connect_buckets[bucket].add();
  service.upstream.connect_us_sum.add(8'250);
  fail(service.endpoints[1], ConnectFailure::refused);
  service.upstream.retries.add();
  service.upstream.ejections_connect.add();
  fail(service.upstream, ConnectFailure::full);
  service.upstream.requests.add(5);
  service.upstream.reused.add(4);
}

// Two clients of /echo, one on each worker; one of them has gone, the other does not read. A third
// request found no route.
void play_small_scene(Scene& scene) {
  play_upstream(scene.add_upstream("backend", {"127.0.0.1:8080", "unix:/run/b.sock"}));
  scene.listener.accepted.add(3);
  RouteCounters& first = scene.route(0, 0);
  RouteCounters& second = scene.route(1, 0);
  for (RouteCounters* route : {&first, &second}) {
    route->connections_opened.add();
    handshakes(*route, HandshakeResult::accepted).add();
    route->handshake_duration.observe(handshake_bounds_us, 300);
  }
  handshakes(scene.workers[1].no_route(), HandshakeResult::no_route).add();
  scene.workers[0].tls_handshakes[1].add();

  TrafficCounters& received = first.traffic[client_to_upstream];
  received.text_messages.add();
  received.text_frames.add();
  received.close_frames.add();
  received.close_codes[close_code_index(1001)].add();
  received.payload_bytes.add(20);
  received.wire_bytes.add(26 + 8);
  received.message_size.observe(message_size_bounds, 20);
  closed(first, Initiator::client, CloseReason::going_away).add();
  first.duration.observe(duration_bounds_ms, 1'500);
  first.ping_rtt.observe(ping_rtt_bounds_us, 700);

  ConnectionSlot& slot = take(scene.workers[1], 0, true);
  slot.buffered_bytes.set(300'000);
  slot.buffered_tls_bytes.set(16'000);
  slot.inbound_bytes.set(12);
  slot.upstream_bytes.set(30);
  slot.upstream_tls_bytes.set(500);
  slot.paused.store(true);
  second.pauses.add();
  scene.workers[0].loop_lag.observe(loop_lag_bounds_us, 50);
}

// What differs from run to run is left out: the process's figures and the build's labels.
std::string without_changing_values(const std::string& text) {
  std::istringstream lines(text);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("process_", 0) == 0 || line.rfind("sluice_build_info", 0) == 0) continue;
    if (line.rfind("sluice_memory_budget_bytes{state=\"used\"}", 0) == 0) continue;
    kept += line + "\n";
  }
  return kept;
}

}  // namespace

// To accept a change on purpose: run with SLUICE_REGENERATE=1 and look at the difference.
TEST_CASE("a small scene is written exactly as in small_scene.txt") {
  Scene scene(2, {"/echo"});
  play_small_scene(scene);
  const std::string path = sluice::test::source_path("tests/unit/metrics/small_scene.txt");
  const std::string text = without_changing_values(collect(scene.sources));
  if (sluice::test::regenerating()) sluice::test::write_text(path, text);
  CHECK(text == sluice::test::read_text(path));
}

TEST_CASE("the numbers of all workers are added up by route") {
  Scene scene(3, {"/a", "/b"});
  for (std::size_t worker = 0; worker < 3; ++worker) {
    scene.route(worker, 0).connections_opened.add(worker + 1);
    scene.route(worker, 1).traffic[upstream_to_client].payload_bytes.add(100);
    scene.route(worker, 1).ping_rtt.observe(ping_rtt_bounds_us, 2'000'000);
  }
  const Exposition text(collect(scene.sources));
  CHECK(text.value("sluice_connections_opened_total", {{"route", "/a"}}) == 6);
  CHECK(text.value("sluice_connections_opened_total", {{"route", "/b"}}) == 0);
  CHECK(text.value("sluice_payload_bytes_total",
                   {{"route", "/b"}, {"direction", "upstream_to_client"}}) == 300);
  CHECK(text.value("sluice_ping_rtt_seconds_count", {{"route", "/b"}}) == 3);
  CHECK(text.value("sluice_ping_rtt_seconds_sum", {{"route", "/b"}}) == doctest::Approx(6));
  CHECK(text.value("sluice_ping_rtt_seconds_bucket", {{"route", "/b"}, {"le", "1"}}) == 0);
  CHECK(text.value("sluice_ping_rtt_seconds_bucket", {{"route", "/b"}, {"le", "5"}}) == 3);
}

TEST_CASE("bufferedAmount is shown as sum, as maximum and as a distribution over live sockets") {
  Scene scene(2, {"/a", "/b"});
  const auto hold = [&](std::size_t worker, std::uint64_t app, std::uint64_t tls) {
    ConnectionSlot& slot = take(scene.workers[worker], 1, tls > 0);
    slot.buffered_bytes.set(app);
    slot.buffered_tls_bytes.set(tls);
    slot.inbound_bytes.set(7);
  };
  hold(0, 0, 0);
  hold(0, 1024, 0);
  hold(1, 200'000, 62'144);  // together exactly the default high watermark
  hold(1, 200'000'000, 0);

  const Exposition text(collect(scene.sources));
  const auto buffered = [&](const char* direction, const char* layer) {
    return text.value("sluice_buffered_amount_bytes",
                      {{"route", "/b"}, {"direction", direction}, {"layer", layer}});
  };
  CHECK(buffered("upstream_to_client", "app") == 200'201'024);
  CHECK(buffered("upstream_to_client", "tls") == 62'144);
  CHECK(buffered("client_to_upstream", "app") == 28);
  CHECK(text.value("sluice_buffered_amount_max_bytes",
                   {{"route", "/b"}, {"direction", "upstream_to_client"}}) == 200'000'000);
  CHECK(text.value("sluice_buffered_amount_max_bytes",
                   {{"route", "/a"}, {"direction", "upstream_to_client"}}) == 0);

  const auto at_most = [&](const char* bytes) {
    return text.value("sluice_connection_buffered_amount_bytes_bucket",
                      {{"route", "/b"}, {"direction", "upstream_to_client"}, {"le", bytes}});
  };
  CHECK(at_most("0") == 1);
  CHECK(at_most("1024") == 2);
  CHECK(at_most("65536") == 2);
  CHECK(at_most("262144") == 3);
  CHECK(at_most("16777216") == 3);
  CHECK(at_most("+Inf") == 4);
  CHECK(text.value("sluice_connections_active",
                   {{"route", "/b"}, {"transport", "h1"}, {"tls", "true"}}) == 1);
  CHECK(text.value("sluice_connections_active",
                   {{"route", "/b"}, {"transport", "h1"}, {"tls", "false"}}) == 3);
}

TEST_CASE("what waits for the upstream counts together with what was not handled yet") {
  Scene scene(1, {"/a"});
  const auto hold = [&](std::uint64_t inbound, std::uint64_t app, std::uint64_t tls) {
    ConnectionSlot& slot = take(scene.workers[0], 0, false);
    slot.inbound_bytes.set(inbound);
    slot.upstream_bytes.set(app);
    slot.upstream_tls_bytes.set(tls);
  };
  hold(10, 200, 3'000);
  hold(1, 0, 0);
  const Exposition text(collect(scene.sources));
  const auto buffered = [&](const char* direction, const char* layer) {
    return text.value("sluice_buffered_amount_bytes",
                      {{"route", "/a"}, {"direction", direction}, {"layer", layer}});
  };
  CHECK(buffered("client_to_upstream", "app") == 211);
  CHECK(buffered("client_to_upstream", "tls") == 3'000);
  CHECK(buffered("upstream_to_client", "app") == 0);
  CHECK(buffered("upstream_to_client", "tls") == 0);
  const Labels labels = {{"route", "/a"}, {"direction", "client_to_upstream"}};
  CHECK(text.value("sluice_buffered_amount_max_bytes", labels) == 3'210);
  const auto at_most = [&](const char* bytes) {
    return text.value("sluice_connection_buffered_amount_bytes_bucket",
                      {{"route", "/a"}, {"direction", "client_to_upstream"}, {"le", bytes}});
  };
  CHECK(at_most("0") == 0);
  CHECK(at_most("1024") == 1);
  CHECK(at_most("16384") == 2);
}

TEST_CASE("upstreams are told apart, and the endpoints of each") {
  Scene scene(1, {"/a"});
  Scene::Service& first = scene.add_upstream("first", {"a:1", "b:1"});
  Scene::Service& second = scene.add_upstream("second", {"a:1"});
  first.endpoints[0].active.set(1);
  first.endpoints[1].active.set(2);
  second.endpoints[0].active.set(4);
  first.endpoints[1].up.set(1);
  for (std::size_t i = 0; i < connect_failure_count; ++i) {
    first.endpoints[0].failures[i].set(i + 1);
    second.upstream.failures[i].set(i + 101);
  }
  second.upstream.ejections_connect.set(7);
  second.upstream.ejections_health.set(8);
  second.upstream.requests.set(9);
  second.upstream.request_failures.set(10);
  second.upstream.reused.set(11);
  second.upstream.handshake_invalid.set(12);
  second.upstream.retries.set(13);

  const Exposition text(collect(scene.sources));
  const auto of_endpoint = [&](const char* family, const char* upstream, const char* endpoint) {
    return text.value(family, {{"upstream", upstream}, {"endpoint", endpoint}});
  };
  CHECK(of_endpoint("sluice_upstream_connections_active", "first", "a:1") == 1);
  CHECK(of_endpoint("sluice_upstream_connections_active", "first", "b:1") == 2);
  CHECK(of_endpoint("sluice_upstream_connections_active", "second", "a:1") == 4);
  CHECK(of_endpoint("sluice_upstream_endpoint_up", "first", "a:1") == 0);
  CHECK(of_endpoint("sluice_upstream_endpoint_up", "first", "b:1") == 1);

  // Each reason once: where there was an endpoint, or where there was none.
  for (std::size_t i = 0; i < connect_failure_count; ++i) {
    const auto failure = static_cast<ConnectFailure>(i);
    const bool attempted =
        failure != ConnectFailure::no_endpoint && failure != ConnectFailure::full;
    CAPTURE(label(failure));
    const Labels labels = {{"upstream", attempted ? "first" : "second"},
                           {"endpoint", attempted ? "a:1" : "none"},
                           {"reason", label(failure)}};
    CHECK(text.value("sluice_upstream_connect_failures_total", labels) ==
          static_cast<double>(attempted ? i + 1 : i + 101));
  }
  const auto of_second = [&](const char* family) {
    return text.value(family, {{"upstream", "second"}});
  };
  CHECK(of_second("sluice_upstream_requests_total") == 9);
  CHECK(of_second("sluice_upstream_request_failures_total") == 10);
  CHECK(of_second("sluice_upstream_connections_reused_total") == 11);
  CHECK(of_second("sluice_upstream_handshake_invalid_total") == 12);
  CHECK(of_second("sluice_upstream_connect_retries_total") == 13);
  const auto ejections = [&](const char* cause) {
    return text.value("sluice_upstream_ejections_total",
                      {{"upstream", "second"}, {"cause", cause}});
  };
  CHECK(ejections("connect") == 7);
  CHECK(ejections("health") == 8);
}

TEST_CASE("the distribution of bufferedAmount is of the present: it shrinks again") {
  Scene scene(1, {"/a"});
  ConnectionSlot& slot = take(scene.workers[0], 0, false);
  slot.buffered_bytes.set(5'000);
  const Labels labels = {{"route", "/a"}, {"direction", "upstream_to_client"}};
  const char* count = "sluice_connection_buffered_amount_bytes_count";
  CHECK(Exposition(collect(scene.sources)).value(count, labels) == 1);
  scene.workers[0].connections.give_back(slot);  // all of it was taken
  const Exposition text(collect(scene.sources));
  CHECK(text.value(count, labels) == 1);
  CHECK(text.value("sluice_connection_buffered_amount_bytes_sum", labels) == 0);
  scene.route(0, 0).connections_active[0].subtract();
  CHECK(Exposition(collect(scene.sources)).value(count, labels) == 0);
}

TEST_CASE("each direction's pauses are told apart") {
  Scene scene(1, {"/a"});
  RouteCounters& route = scene.route(0, 0);
  ConnectionSlot& slot = take(scene.workers[0], 0, false);
  slot.read_paused.store(true);
  route.pauses.add(3);
  route.resumes.add(2);
  route.read_pauses.add(5);
  route.read_resumes.add(4);
  route.paused_ms.add(1'500);
  route.read_paused_ms.add(250);

  const Exposition text(collect(scene.sources));
  const auto check = [&](const char* direction, double paused, double pauses, double resumes,
                         double seconds) {
    const Labels labels = {{"route", "/a"}, {"direction", direction}};
    const auto transitions = [&](const char* event) {
      return text.value("sluice_backpressure_transitions_total",
                        {{"route", "/a"}, {"direction", direction}, {"event", event}});
    };
    CHECK(text.value("sluice_backpressure_paused_connections", labels) == paused);
    CHECK(transitions("pause") == pauses);
    CHECK(transitions("resume") == resumes);
    CHECK(text.value("sluice_backpressure_paused_seconds_total", labels) == seconds);
  };
  check("upstream_to_client", 0, 3, 2, 1.5);
  check("client_to_upstream", 1, 5, 4, 0.25);
}

TEST_CASE("every drop is counted, and under the policy that ordered it") {
  Scene scene(1, {"/a"});
  RouteCounters& route = scene.route(0, 0);
  route.messages_dropped_oldest.add(2);
  route.messages_dropped_newest.add(3);
  route.slow_consumer_closes.add(4);
  const Exposition text(collect(scene.sources));
  const auto actions = [&](const char* policy) {
    return text.value("sluice_slow_consumer_actions_total", {{"route", "/a"}, {"policy", policy}});
  };
  CHECK(actions("drop_oldest") == 2);
  CHECK(actions("drop_newest") == 3);
  CHECK(actions("close") == 4);
  CHECK(text.value("sluice_messages_dropped_total",
                   {{"route", "/a"}, {"reason", "slow_consumer"}}) == 5);
}

TEST_CASE("a protocol error is a close that the gateway began, not one that the client reports") {
  Scene scene(1, {"/a"});
  RouteCounters& route = scene.route(0, 0);
  closed(route, Initiator::gateway, CloseReason::protocol_error).add(2);
  closed(route, Initiator::gateway, CloseReason::invalid_data).add(3);
  closed(route, Initiator::gateway, CloseReason::message_too_big).add(4);
  closed(route, Initiator::gateway, CloseReason::idle_timeout).add(100);
  closed(route, Initiator::client, CloseReason::protocol_error).add(100);
  const Exposition text(collect(scene.sources));
  const auto errors = [&](const char* kind) {
    return text.value("sluice_protocol_errors_total", {{"route", "/a"}, {"kind", kind}});
  };
  CHECK(errors("protocol_error") == 2);
  CHECK(errors("invalid_data") == 3);
  CHECK(errors("message_too_big") == 4);
  CHECK(text.total("sluice_protocol_errors_total") == 9);
}

TEST_CASE(
    "requests without a route are shown as route \"none\" among the handshakes' results only") {
  Scene scene(1, {"/a"});
  handshakes(scene.workers[0].no_route(), HandshakeResult::no_route).add(9);
  const Exposition text(collect(scene.sources));
  CHECK(text.value("sluice_handshakes_total", {{"route", "none"}, {"result", "no_route"}}) == 9);
  CHECK(text.value("sluice_handshakes_total", {{"route", "/a"}, {"result", "no_route"}}) == 0);
  for (const auto& [name, family] : text.families) {
    for (const auto& [sample, series] : family.samples) {
      for (const auto& [labels, value] : series) {
        const auto route = labels.find("route");
        if (route == labels.end() || route->second != "none") continue;
        CHECK(sample == "sluice_handshakes_total");
      }
    }
  }
}

TEST_CASE("limits are added up over the routes, and shed connections are one of them") {
  Scene scene(2, {"/a", "/b"});
  const auto reject = [](RouteCounters& route, Limit limit) {
    route.limit_rejections[static_cast<std::size_t>(limit)].add();
  };
  reject(scene.route(0, 0), Limit::message_size);
  reject(scene.route(1, 1), Limit::message_size);
  reject(scene.workers[0].no_route(), Limit::process_connections);
  scene.listener.shed.add(7);
  const Exposition text(collect(scene.sources));
  const auto rejections = [&](const char* limit) {
    return text.value("sluice_limit_rejections_total", {{"limit", limit}});
  };
  CHECK(rejections("message_size") == 2);
  CHECK(rejections("process_connections") == 1);
  CHECK(rejections("descriptors") == 7);
  CHECK(rejections("fragments") == 0);
}

TEST_CASE("the state of the process and of its configuration is shown") {
  Scene scene(1, {"/a"});
  scene.sources.plugin_abi = 3;
  scene.draining = true;
  scene.listener.errors_emfile.add(2);
  ListenerCounters of_services;
  of_services.errors_emfile.add(3);
  scene.sources.listeners.push_back(&of_services);
  const Exposition text(collect(scene.sources));
  CHECK(text.value("sluice_draining") == 1);
  CHECK(text.value("sluice_config_last_reload_success_timestamp_seconds") == 1'700'000'000);
  CHECK(text.value("sluice_accept_errors_total", {{"errno", "EMFILE"}}) == 2 + 3);
  CHECK(text.value("sluice_build_info",
                   {{"version", version()}, {"revision", revision()}, {"abi", "3"}}) == 1);
  CHECK(text.value("process_open_fds") >= 3);
  CHECK(text.value("process_threads") >= 1);
}

TEST_CASE("a route's name may hold quotes, backslashes, line feeds and Chinese") {
  const std::string name = "/a\"b\\c\nd/回声";
  Scene scene(1, {name});
  scene.route(0, 0).connections_opened.add(5);
  const Exposition text(collect(scene.sources));
  CHECK(text.value("sluice_connections_opened_total", {{"route", name}}) == 5);
}

TEST_CASE("a gateway without routes and traffic is scraped as well") {
  Scene scene(1, {});
  const Exposition text(collect(scene.sources));
  CHECK(text.value("sluice_connections_accepted_total") == 0);
}

TEST_CASE("a slot of a route that is not configured is left out") {
  Scene scene(1, {"/a"});
  take(scene.workers[0], 1, false);  // the route "none"
  take(scene.workers[0], 99, false);
  CHECK(Exposition(collect(scene.sources)).total("sluice_connections_active") == 0);
}

TEST_CASE("a route costs a bounded number of series, and traffic does not add to them") {
  const auto series = [](const Scene& scene) {
    return Exposition(collect(scene.sources)).series_count();
  };
  Scene one(1, {"/a"});
  Scene two(4, {"/a", "/b"});
  const std::size_t loops = 3 * (loop_lag_bounds_us.size() + 3);
  const std::size_t a_route = series(two) - loops - series(one);
  CHECK(a_route < 200);
  one.add_upstream("first", {"a:1"});
  const std::size_t upstream_and_endpoint = series(one);
  one.add_upstream("second", {"a:1", "b:1"});
  two.add_upstream("first", {"a:1", "b:1"});
  const std::size_t an_endpoint = series(two) - loops - a_route - upstream_and_endpoint;
  CHECK(an_endpoint <= 10);
  CHECK(series(one) - upstream_and_endpoint - 2 * an_endpoint <= 30);

  const std::size_t before = series(one);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    take(one.workers[0], 0, false).buffered_bytes.set(i * 1000);
    one.route(0, 0).ping_rtt.observe(ping_rtt_bounds_us, i * 10'000);
    one.route(0, 0).traffic[client_to_upstream].text_frames.add();
  }
  CHECK(series(one) == before);
}

TEST_CASE("of very many routes only those are written that somebody has asked for") {
  for (const std::size_t count : {500U, 501U}) {
    CAPTURE(count);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; ++i) names.push_back("/" + std::to_string(i));
    Scene scene(2, names);
    scene.route(0, 7).handshakes[0].add();
    scene.route(1, 8).http_responses[1].add();
    scene.route(1, 9).limit_rejections[0].add();
    const std::string text = collect(scene.sources);
    for (const char* used : {"\"/7\"", "\"/8\"", "\"/9\"", "\"none\""}) {
      CHECK(text.find(used) != std::string::npos);
    }
    CHECK((text.find("\"/10\"") != std::string::npos) == (count == 500));
  }
}

TEST_CASE("of the ways to close and the close codes only those that happened are written") {
  Scene scene(1, {"/a"});
  const auto count = [&scene](const char* family) {
    return Exposition(collect(scene.sources)).families.at(family).samples.at(family).size();
  };
  CHECK(count("sluice_connections_closed_total") == 1);
  CHECK(count("sluice_close_frames_total") == 2);
  closed(scene.route(0, 0), Initiator::gateway, CloseReason::drain).add();
  for (std::uint32_t code = 0; code <= 65535; ++code) {
    const std::size_t index = close_code_index(static_cast<std::uint16_t>(code));
    scene.route(0, 0).traffic[upstream_to_client].close_codes[index].add();
  }
  CHECK(count("sluice_connections_closed_total") == 2);
  CHECK(count("sluice_close_frames_total") == close_code_count + 1);
}

// Meant for -DSLUICE_SANITIZE=thread too: nothing here may be a data race.
TEST_CASE("scrapes while workers open and close connections see counters that only grow") {
  Scene scene(2, {"/a", "/b"});
  constexpr std::size_t turns = 20'011;
  constexpr std::size_t open_max = 700;  // more than two chunks of the table
  std::atomic<bool> enough{false};
  const auto work = [&](std::size_t index) {
    WorkerCounters& worker = scene.workers[index];
    std::vector<ConnectionSlot*> open;
    for (std::size_t i = 0; i < turns || !enough.load(std::memory_order_relaxed); ++i) {
      const std::size_t turn = (i * 7919) % turns;
      if (open.size() == open_max || (turn % 5 == 0 && !open.empty())) {
        closed(worker.routes[open.back()->route.load()], Initiator::client, CloseReason::normal)
            .add();
        give_back(worker, *open.back(), false);
        open.pop_back();
        continue;
      }
      const auto route = static_cast<std::uint32_t>(turn % 2);
      worker.routes[route].connections_opened.add();
      worker.routes[route].handshake_duration.observe(handshake_bounds_us, turn);
      open.push_back(&take(worker, route, false));
      open.back()->buffered_bytes.set(turn);
      open.back()->paused.store(turn > 1000, std::memory_order_relaxed);
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 2; ++i) threads.emplace_back(work, i);

  double opened_before = 0;
  for (int scrape = 0; scrape < 30; ++scrape) {
    const Exposition text(collect(scene.sources));
    const double opened = text.total("sluice_connections_opened_total");
    CHECK(opened >= opened_before);
    opened_before = opened;
    // Of one route: what moves to the other while the two are read is counted twice.
    for (const auto& [labels, active] :
         text.families.at("sluice_connections_active").samples.begin()->second) {
      CHECK(active <= 2 * open_max);
    }
    for (const auto& [labels, bytes] :
         text.families.at("sluice_buffered_amount_max_bytes").samples.begin()->second) {
      CHECK(bytes < turns);
    }
  }
  enough.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();

  const Exposition text(collect(scene.sources));
  CHECK(text.total("sluice_connections_active") > 256);
  CHECK(text.total("sluice_connections_opened_total") -
            text.total("sluice_connections_closed_total") ==
        text.total("sluice_connections_active"));
}

}  // namespace sluice::metrics
