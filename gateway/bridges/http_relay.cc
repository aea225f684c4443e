#include "bridges/http_relay.h"

#include <optional>
#include <string_view>
#include <utility>

#include "bridges/outage_watch.h"
#include "bridges/upstream_failure.h"
#include "bridges/upstream_request.h"
#include "http/forward.h"

namespace sluice::bridges {
namespace {

using upstreams::HttpExchange;
using upstreams::HttpFailure;

http::Response client_response(const http::ResponseHead& head) {
  http::Response response;
  response.status = head.status;
  response.reason_phrase = head.reason_phrase;
  response.headers = http::response_headers(head);
  return response;
}

class HttpRelay final : public Relay, private HttpExchange::Owner, private OutageWatch::Listener {
 public:
  HttpRelay(const HttpRoute& route, std::shared_ptr<OutageWatch> outages)
      : route_(&route), outages_(std::move(outages)) {
    outages_->add(*this);
  }
  // For a response that has begun to come.
  HttpRelay(std::unique_ptr<HttpExchange> exchange, const http::ResponseHead& head)
      : exchange_(std::move(exchange)), head_(head) {
    exchange_->set_owner(*this);
    exchange_->pause();
  }
  ~HttpRelay() override {
    if (outages_ != nullptr) outages_->remove(*this);
  }
  HttpRelay(const HttpRelay&) = delete;
  HttpRelay& operator=(const HttpRelay&) = delete;

  void on_request(const ClientRequest& request, RelayClient& client) override {
    client_ = &client;
    if (exchange_ != nullptr) {
      respond(*head_);
      exchange_->resume();
    } else {
      exchange_ = std::make_unique<HttpExchange>(route_->context, route_->pool, route_->upstream,
                                                 upstream_request(*route_, request),
                                                 static_cast<HttpExchange::Owner&>(*this));
    }
  }

  void on_body(Bytes piece) override {
    exchange_->send_body(piece);
    if (body_paused_ || exchange_->request_buffered() <= high_watermark_bytes()) return;
    body_paused_ = true;
    client_->pause_body();
  }

  void on_body_end(const std::vector<http::Header>& trailers) override {
    exchange_->end_body(route_ == nullptr ? trailers : upstream_trailers(*route_, trailers));
  }

  void on_drain() override { exchange_->resume(); }

  void on_gone() override {
    client_ = nullptr;
    if (exchange_ != nullptr) exchange_->cancel();
  }

  std::uint64_t held_bytes() const override {
    return exchange_ == nullptr ? 0
                                : exchange_->request_buffered() + exchange_->request_buffered_tls();
  }

 private:
  // HttpExchange::Owner
  void on_informational(const http::ResponseHead& head) override {
    client_->inform(client_response(head));
  }

  void on_response(const http::ResponseHead& head) override { respond(head); }

  void on_response_body(Bytes piece) override {
    client_->send_body(piece);
    if (client_->buffered_amount() > high_watermark_bytes()) exchange_->pause();
  }

  void on_response_end(const std::vector<http::Header>& trailers) override {
    client_->end_response(trailers);
  }

  void on_request_drain() override {
    if (std::exchange(body_paused_, false)) client_->resume_body();
  }

  void on_exchange_failure(const HttpFailure& failure) override {
    name_upstream();
    if (responded_) {
      client_->abort_response(failure.detail);
    } else {
      client_->refuse(refusal_after(failure), failure.detail);
    }
  }

  // A stream of events would go on for ever. What is not answered yet has its response_timeout.
  void on_endpoint_down(const upstreams::Endpoint& endpoint) override {
    if (client_ == nullptr || !responded_ || exchange_->endpoint() != &endpoint) return;
    exchange_->cancel();
    client_->abort_response(endpoint.name() + ": on_endpoint_down: close");
  }

  void respond(const http::ResponseHead& head) {
    responded_ = true;
    name_upstream();
    http::Response response = client_response(head);
    response.content_length = head.content_length;
    client_->respond(response);
  }

  void name_upstream() {
    const upstreams::Endpoint* const endpoint = exchange_->endpoint();
    client_->name_upstream(exchange_->upstream().name(),
                           endpoint == nullptr ? std::string_view() : endpoint->name());
  }

  std::size_t high_watermark_bytes() const { return exchange_->request().high_watermark_bytes; }

  const HttpRoute* route_ = nullptr;
  const std::shared_ptr<OutageWatch> outages_;  // null: none that is known
  RelayClient* client_ = nullptr;
  std::unique_ptr<HttpExchange> exchange_;
  const std::optional<http::ResponseHead> head_;  // of a response that has begun
  bool responded_ = false;
  bool body_paused_ = false;  // the client's, since the upstream does not read
};

}  // namespace

HttpRelayFactory::HttpRelayFactory(const HttpRoute& route)
    : route_(route), outages_(std::make_shared<OutageWatch>(route.context.loop)) {
  outages_->watch(route.upstream);
}

HttpRelayFactory::~HttpRelayFactory() = default;

std::unique_ptr<Relay> HttpRelayFactory::create() {
  return std::make_unique<HttpRelay>(route_, outages_);
}

std::unique_ptr<Relay> relay_response(std::unique_ptr<HttpExchange> exchange,
                                      const http::ResponseHead& head) {
  return std::make_unique<HttpRelay>(std::move(exchange), head);
}

}  // namespace sluice::bridges
