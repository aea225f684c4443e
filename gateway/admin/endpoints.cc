#include "admin/endpoints.h"

#include <utility>

namespace sluice::admin {
namespace {

http::Response text(int status, std::string body) {
  return {.status = status,
          .headers = {{"Content-Type", "text/plain; charset=utf-8"}, {"Cache-Control", "no-store"}},
          .body = std::move(body),
          .content_length = {}};
}

// Answers GET and HEAD with what a function returns.
class Endpoint final : public http::Handler {
 public:
  explicit Endpoint(std::function<http::Response()> answer) : answer_(std::move(answer)) {}

  http::StaticFiles::Reply respond(const http::Request& request, std::string_view) const override {
    if (request.method != "GET" && request.method != "HEAD") {
      return {http::refusal(405, "only GET and HEAD", {{"Allow", "GET, HEAD"}}), {}};
    }
    return {answer_(), {}};
  }

 private:
  std::function<http::Response()> answer_;
};

}  // namespace

std::unique_ptr<const http::Handler> make_metrics(const metrics::Sources& sources) {
  return std::make_unique<Endpoint>([&sources] {
    http::Response response = text(200, metrics::collect(sources));
    response.headers.front().value = metrics::content_type;
    return response;
  });
}

std::unique_ptr<const http::Handler> make_health() {
  return std::make_unique<Endpoint>([] { return text(200, "ok\n"); });
}

std::unique_ptr<const http::Handler> make_readiness(std::function<std::string()> obstacle) {
  return std::make_unique<Endpoint>([ask = std::move(obstacle)] {
    const std::string why = ask();
    return why.empty() ? text(200, "ready\n") : text(503, why + "\n");
  });
}

}  // namespace sluice::admin
