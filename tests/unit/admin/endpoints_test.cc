#include "admin/endpoints.h"

#include <doctest/doctest.h>

#include <atomic>
#include <string>

using namespace sluice;

namespace {

http::Response ask(const http::Handler& handler, const std::string& method) {
  http::Request request;
  request.method = method;
  return handler.respond(request, "/").head;
}

std::string field(const http::Response& response, const std::string& name) {
  for (const http::Header& header : response.headers) {
    if (header.name == name) return header.value;
  }
  return "";
}

}  // namespace

TEST_CASE("/healthz is fine as long as somebody answers") {
  const auto health = admin::make_health();
  CHECK(ask(*health, "GET").status == 200);
  CHECK(ask(*health, "GET").body == "ok\n");
  CHECK(ask(*health, "HEAD").status == 200);
}

TEST_CASE("/readyz is 503 as long as there is an obstacle, and tells it") {
  std::string obstacle;
  const auto readiness = admin::make_readiness([&obstacle] { return obstacle; });
  CHECK(ask(*readiness, "GET").status == 200);
  obstacle = "shutting down";
  CHECK(ask(*readiness, "GET").status == 503);
  CHECK(ask(*readiness, "GET").body == "shutting down\n");
  obstacle.clear();
  CHECK(ask(*readiness, "GET").status == 200);
}

TEST_CASE("/metrics has the counters of the moment, in the format that Prometheus reads") {
  metrics::WorkerCounters worker(1);
  metrics::ListenerCounters listener;
  metrics::MemoryCounters memory;
  std::atomic<bool> draining{false};
  metrics::Sources sources;
  sources.workers = {&worker};
  sources.route_names = {"/echo"};
  sources.listeners = {&listener};
  sources.memory = &memory;
  sources.draining = &draining;
  const auto endpoint = admin::make_metrics(sources);
  const std::string line = "sluice_connections_opened_total{route=\"/echo\"} ";
  CHECK(ask(*endpoint, "GET").body.find(line + "0\n") != std::string::npos);
  worker.routes[0].connections_opened.add(3);
  const http::Response response = ask(*endpoint, "GET");
  CHECK(response.body.find(line + "3\n") != std::string::npos);
  CHECK(field(response, "Content-Type") == metrics::content_type);
  CHECK(field(response, "Cache-Control") == "no-store");
}

TEST_CASE("the endpoints only tell: any method but GET and HEAD gets 405 (RFC 9110 15.5.6)") {
  const auto health = admin::make_health();
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "get"}) {
    CAPTURE(method);
    const http::Response response = ask(*health, method);
    CHECK(response.status == 405);
    CHECK(field(response, "Allow") == "GET, HEAD");
  }
}
