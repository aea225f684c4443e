#include "upstreams/checker.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "support/log_lines.h"
#include "support/own_network.h"
#include "unit/upstreams/scene.h"

using namespace sluice;
using namespace sluice::test;
using namespace sluice::upstreams;

namespace {

// A server that answers each request with the same bytes, from the test's own loop.
class Answering final {
 public:
  explicit Answering(TestLoop& loop) : timer_(loop.loop, [this] { look(); }) { timer_.start(1, 1); }

  std::string address() const { return server_.address(); }

  std::string answer;      // empty: none
  bool close_then = true;  // after the answer; without one, at once
  std::vector<std::string> requests;

 private:
  void look() {
    for (int fd = server_.accept_now(); fd >= 0; fd = server_.accept_now()) {
      peers_.push_back(std::make_unique<ClientEnd>(fd));
      requests.emplace_back();
    }
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      if (peers_[i]->fd() >= 0) look_at(*peers_[i], requests[i]);
    }
  }
  void look_at(ClientEnd& peer, std::string& request) const {
    char bytes[4096];
    const ssize_t count = ::recv(peer.fd(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count == 0) return peer.close();
    if (count > 0) request.append(bytes, static_cast<std::size_t>(count));
    if (request.find("\r\n\r\n") == std::string::npos) return;
    for (const char c : answer) {
      if (::send(peer.fd(), &c, 1, MSG_NOSIGNAL) < 0) break;  // byte by byte
    }
    if (close_then) peer.close();
  }

  Server server_;
  std::vector<std::unique_ptr<ClientEnd>> peers_;
  uv::Timer timer_;
};

struct Scene {
  ~Scene() {
    checker.reset();
    servers.clear();
    CHECK(loop.loop.close().has_value());
  }

  Answering& add_server() {
    servers.push_back(std::make_unique<Answering>(loop));
    return *servers.back();
  }
  void start(std::uint64_t timeout_ms = 60'000) {
    if (upstream == nullptr) upstream = Upstream::create("up", config).value();
    checker = std::make_unique<Checker>(loop.loop, std::vector{upstream});
    checker->start(timeout_ms, [this] {
      ++ready;
      for (const auto& endpoint : upstream->endpoints()) {
        if (endpoint->addresses().empty()) ++unknown_when_ready;
      }
    });
    CHECK(ready == 0);
  }
  Endpoint& at(std::size_t i) const { return *upstream->endpoints()[i]; }
  void run_until_up(bool up) {
    loop.run_until([&] { return upstream->is_up(at(0)) == up; });
  }

  TestLoop loop;
  std::vector<std::unique_ptr<Answering>> servers;
  config::Upstream config;
  std::shared_ptr<Upstream> upstream;
  std::unique_ptr<Checker> checker;
  int ready = 0;
  int unknown_when_ready = 0;
};

config::HealthCheck quick(const std::string& path = "") {
  config::HealthCheck check;
  check.path = path;
  check.interval_ms = 5;
  check.timeout_ms = 60'000;  // longer than the test's patience
  check.healthy_threshold = 2;
  check.unhealthy_threshold = 3;
  return check;
}

}  // namespace

TEST_CASE("checker: names are resolved at the start; then, and only once, it is ready") {
  Scene scene;
  scene.config.endpoints = {{"127.1:80"}, {"127.2:81"}, {"127.0.0.3:82"}};
  scene.start();
  CHECK(scene.at(0).needs_resolving());
  CHECK(scene.at(0).addresses().empty());
  scene.loop.run_until([&] { return scene.ready > 0; });
  REQUIRE(scene.at(0).addresses().size() == 1);
  CHECK(scene.at(0).addresses()[0].to_string() == "127.0.0.1:80");
  CHECK(scene.at(1).addresses()[0].to_string() == "127.0.0.2:81");
  scene.loop.run_for(20);
  CHECK(scene.ready == 1);
}

TEST_CASE("checker: it is ready when the last of many names was answered") {
  Scene scene;
  for (int i = 1; i <= 3'000; ++i) {  // more than are answered in one turn
    scene.config.endpoints.push_back({"127." + std::to_string(i) + ":80"});
  }
  scene.start();
  scene.loop.run_until([&] { return scene.ready == 1; });
  CHECK(scene.unknown_when_ready == 0);
}

TEST_CASE("checker: without names it is ready at once") {
  Scene scene;
  scene.config.endpoints = {{"127.0.0.1:80"}};
  scene.start();
  scene.loop.run_until([&] { return scene.ready == 1; });
}

TEST_CASE("checker: a name without an address is told to its endpoint, and keeps nobody waiting") {
  Scene scene;
  scene.config.endpoints = {{"no..name:80"}};
  scene.start();
  scene.loop.run_until([&] { return scene.ready == 1; });
  CHECK(scene.at(0).addresses().empty());
  CHECK(scene.at(0).resolve_error() != "");
}

TEST_CASE("checker: an answer that does not come in time keeps nobody waiting") {
  Scene scene;
  scene.config.endpoints = {{"127.1:80"}};
  scene.start(0);
  scene.loop.run_until([&] { return scene.ready == 1; });
  scene.loop.run_until([&] { return !scene.at(0).addresses().empty(); });
  scene.loop.run_for(20);
  CHECK(scene.ready == 1);
}

TEST_CASE("checker: names are looked up again after dns_refresh") {
  Scene scene;
  scene.config.endpoints = {{"127.1:80"}};
  scene.config.dns_refresh_ms = 100;
  scene.start();
  scene.loop.run_until([&] { return scene.ready == 1; });
  const auto began_ns = uv::now_ns();
  scene.at(0).set_addresses({*net::Address::parse("10.0.0.1:80")});
  scene.loop.run_until([&] { return scene.at(0).addresses()[0].to_string() == "127.0.0.1:80"; });
  CHECK(uv::now_ns() - began_ns >= 80'000'000);
}

TEST_CASE("checker: the last good answer stays when the name is gone") {
  Scene scene;
  scene.config.endpoints = {{"no..name:80"}};
  scene.config.dns_refresh_ms = 100;
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.at(0).set_addresses({*net::Address::parse("10.0.0.1:80")});
  scene.start();
  scene.loop.run_until([&] { return scene.ready == 1; });
  scene.loop.run_for(150);
  REQUIRE(scene.at(0).addresses().size() == 1);
  CHECK(scene.at(0).resolve_error() == "");
}

TEST_CASE("checker: an upstream that comes later is resolved, and forgotten with its last user") {
  Scene scene;
  scene.config.endpoints = {{"127.0.0.1:80"}};
  scene.start();
  config::Upstream later;
  later.endpoints = {{"127.1:5901"}};
  later.dns_refresh_ms = 100;
  auto upstream = Upstream::create("later", later).value();
  scene.checker->add(upstream);
  scene.loop.run_until([&] { return !upstream->endpoints()[0]->addresses().empty(); });
  CHECK(upstream->endpoints()[0]->addresses()[0].to_string() == "127.0.0.1:5901");
  const std::weak_ptr<Upstream> weak = upstream;
  upstream.reset();
  scene.loop.run_until([&] { return weak.expired(); });
  scene.loop.run_for(150);  // its next look-up finds nobody
  for (int i = 0; i < 100; ++i) scene.checker->add(Upstream::create("later", later).value());
  scene.loop.run_for(20);
}

TEST_CASE("checker: TCP: an endpoint that refuses goes down after the threshold, and comes back") {
  Refusing port;
  Scene scene;
  scene.config.endpoints = {{port.address()}};
  scene.config.health_check = quick();
  scene.start();
  CHECK(scene.upstream->is_up(scene.at(0)));
  scene.run_until_up(false);
  CHECK(scene.upstream->counters().ejections_health.get() == 1);
  CHECK(scene.at(0).counters().connects.get() == 0);  // checks are not connections of clients
  CHECK(scene.at(0).counters().active.get() == 0);
  port.listen();
  scene.run_until_up(true);
}

TEST_CASE("checker: HTTP: the request is whole, and says that it is the last") {
  Scene scene;
  Answering& server = scene.add_server();
  server.answer = "HTTP/1.1 204 No Content\r\n\r\n";
  scene.config.endpoints = {{server.address()}};
  scene.config.health_check = quick("/health?deep=1");
  scene.start();
  scene.loop.run_until([&] { return server.requests.size() >= 3; });
  CHECK(server.requests[0] == "GET /health?deep=1 HTTP/1.1\r\nHost: " + server.address() +
                                  "\r\nUser-Agent: sluice\r\nAccept: */*\r\n"
                                  "Connection: close\r\n\r\n");
  CHECK(scene.upstream->is_up(scene.at(0)));
}

TEST_CASE("checker: HTTP: each answer counts by itself") {
  Scene scene;
  Answering& server = scene.add_server();
  server.answer = "HTTP/1.1 200 OK\r\n\r\n";
  scene.config.endpoints = {{server.address()}};
  scene.config.health_check = quick("/");
  scene.start();
  scene.loop.run_until([&] { return server.requests.size() >= 5; });
  CHECK(scene.upstream->is_up(scene.at(0)));
  server.answer = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
  scene.run_until_up(false);
  server.answer = "HTTP/1.1 200 OK\r\n\r\n";
  scene.run_until_up(true);
}

TEST_CASE("checker: HTTP: the host is the one that is configured") {
  Scene scene;
  Answering& server = scene.add_server();
  server.answer = "HTTP/1.1 200 OK\r\n\r\n";
  scene.config.endpoints = {{server.address()}};
  scene.config.health_check = quick("/");
  scene.config.health_check->host = "app.example";
  scene.start();
  scene.loop.run_until([&] { return !server.requests.empty() && !server.requests[0].empty(); });
  CHECK(server.requests[0].find("\r\nHost: app.example\r\n") != std::string::npos);
}

TEST_CASE("checker: HTTP: 200 to 399 is healthy, everything else is not") {
  struct Row {
    const char* answer;
    bool healthy;
  };
  const std::vector<Row> rows = {
      {"HTTP/1.1 200 OK\r\n\r\n", true},
      {"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nbody", true},
      {"HTTP/1.1 399 \r\n\r\n", true},
      {"HTTP/1.1 302\r\nLocation: /\r\n\r\n", true},
      {"HTTP/1.1 199 x\r\n\r\n", false},
      {"HTTP/1.1 400 Bad Request\r\n\r\n", false},
      {"HTTP/1.1 503 Service Unavailable\r\n\r\n", false},
      {"HTTP/1.1 2000 OK\r\n\r\n", false},
      {"HTTP/1.1 20 OK\r\n\r\n", false},
      {"HTTP/2.0 200 OK\r\n\r\n", false},
      {"HTTP/1.1  200 OK\r\n\r\n", false},
      {"http/1.1 200 OK\r\n\r\n", false},
      {"SSH-2.0-OpenSSH_9.2\r\n", false},
      {"HTTP/1.1 200", false},  // and then the end
      {"", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.answer);
    Scene scene;
    Answering& server = scene.add_server();
    server.answer = row.answer;
    scene.config.endpoints = {{server.address()}};
    scene.config.health_check = quick("/");
    // It begins as the other one.
    scene.upstream = Upstream::create("up", scene.config).value();
    if (row.healthy) {
      for (int i = 0; i < 3; ++i) scene.upstream->report_check(scene.at(0), false);
    }
    scene.start();
    scene.run_until_up(row.healthy);
  }
}

TEST_CASE("checker: HTTP: a server that never answers, or never ends, fails by the deadline") {
  for (const char* answer : {"", "HTTP/1.1 2"}) {
    Scene scene;
    Answering& server = scene.add_server();
    server.answer = answer;
    server.close_then = false;
    scene.config.endpoints = {{server.address()}};
    scene.config.health_check = quick("/");
    scene.config.health_check->timeout_ms = 20;
    scene.config.health_check->unhealthy_threshold = 1;
    scene.start();
    scene.run_until_up(false);
    CHECK(server.requests.size() >= 1);
  }
}

TEST_CASE("checker: HTTP: an answer that goes on for ever is read no further than its status") {
  Scene scene;
  Answering& server = scene.add_server();
  server.answer = "HTTP/1.1 200 OK\r\n\r\n" + std::string(1'000, 'x');
  server.close_then = false;
  scene.config.endpoints = {{server.address()}};
  scene.config.health_check = quick("/");
  scene.upstream = Upstream::create("up", scene.config).value();
  for (int i = 0; i < 3; ++i) scene.upstream->report_check(scene.at(0), false);
  scene.start();
  scene.run_until_up(true);
}

TEST_CASE("checker: TLS: a connection without a handshake is no healthy one") {
  Server silent;
  Scene scene;
  scene.config.endpoints = {{silent.address()}};
  scene.config.tls.emplace();
  scene.config.tls->verify = false;
  scene.config.health_check = quick();
  scene.config.health_check->timeout_ms = 20;
  scene.start();
  scene.run_until_up(false);
}

TEST_CASE("checker: a name that is not known yet is no failed check") {
  Server server;
  Scene scene;
  scene.config.endpoints = {{"127.1:" + server.port()}};
  scene.config.health_check = quick();
  scene.config.health_check->interval_ms = 0;  // asked at the same moment as the resolver
  scene.config.health_check->unhealthy_threshold = 1;
  scene.start();
  int accepted = -1;
  scene.loop.run_until([&] { return (accepted = server.accept_now()) >= 0; });
  ::close(accepted);
  CHECK(scene.upstream->counters().ejections_health.get() == 0);
}

TEST_CASE("checker: a name without an address is a failed check") {
  Scene scene;
  scene.config.endpoints = {{"no..name:80"}};
  scene.config.health_check = quick();
  scene.start();
  scene.run_until_up(false);
  CHECK(scene.ready == 1);
}

TEST_CASE("checker: an address that does not answer leaves time for the others") {
  const Refusing down;
  const Dropping silent;
  const Server server;
  Scene scene;
  scene.config.endpoints = {{"no..name:80"}};
  scene.config.health_check = quick();
  scene.config.health_check->timeout_ms = 800;
  scene.config.health_check->healthy_threshold = 1;
  scene.upstream = Upstream::create("up", scene.config).value();
  scene.at(0).set_addresses({*net::Address::parse(down.address()), silent.address(),
                             *net::Address::parse(server.address())});
  for (int i = 0; i < 3; ++i) scene.upstream->report_check(scene.at(0), false);
  scene.start();
  scene.run_until_up(true);
}

TEST_CASE("checker: without descriptors nothing is said of an endpoint") {
  Server server;
  Scene scene;
  scene.config.endpoints = {{server.address()}};
  scene.config.health_check = quick();
  scene.config.health_check->unhealthy_threshold = 1;
  scene.start();
  int accepted = -1;
  const auto is_asked = [&] { return (accepted = server.accept_now()) >= 0; };
  scene.loop.run_until(is_asked);
  ::close(accepted);
  LogLines log;
  {
    const NoDescriptors none;
    scene.loop.run_for(30);
  }
  CHECK(count_of(log.stop(), "upstream endpoint not checked") == 1);
  scene.loop.run_until(is_asked);
  ::close(accepted);
  CHECK(scene.upstream->counters().ejections_health.get() == 0);
}

TEST_CASE("checker: without a port to connect from nothing is said, if no address answers then") {
  in_own_network("40000 40000", [] {
    const Server server(5000);
    const Dropping silent("127.0.0.2:5000", "127.0.0.1:41000");
    const auto address = *net::Address::parse(server.address());
    const Fd holder(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(holder.get(), address.raw(), address.raw_size()) != 0) return "no connection";
    Scene scene;
    scene.config.endpoints = {{server.address()}};  // a name would be looked up by a thread
    scene.config.health_check = quick();
    scene.config.health_check->timeout_ms = 20;
    scene.config.health_check->unhealthy_threshold = 1;
    scene.upstream = Upstream::create("up", scene.config).value();
    scene.at(0).set_addresses({address, silent.address()});
    LogLines log;
    scene.start();
    scene.loop.run_for(100);
    if (!scene.upstream->is_up(scene.at(0))) return "it is down";
    return count_of(log.stop(), "upstream endpoint not checked") == 1 ? "" : "not checked at all";
  });
}

TEST_CASE("checker: the end of an ejection is shown without anybody asking") {
  Scene scene;
  scene.config.endpoints = {{"127.0.0.1:80"}, {"127.0.0.2:80"}};
  scene.config.outlier_detection.consecutive_failures = 1;
  scene.config.outlier_detection.base_ejection_time_ms = 50;
  scene.start();
  scene.upstream->report_failure(scene.at(0), metrics::ConnectFailure::refused);
  CHECK(scene.at(0).counters().up.get() == 0);
  scene.loop.run_until([&] { return scene.at(0).counters().up.get() == 1; });
}

TEST_CASE("checker: destroyed at any moment, it leaves nothing in the loop") {
  Refusing down;
  Server silent;
  for (const int wait_ms : {0, 1, 5, 30}) {
    Scene scene;
    scene.config.endpoints = {{"127.1:80"}, {"no..name:80"}, {down.address()}, {silent.address()}};
    scene.config.health_check = quick("/");
    scene.start();
    if (wait_ms > 0) scene.loop.run_for(static_cast<std::uint64_t>(wait_ms));
  }
}
