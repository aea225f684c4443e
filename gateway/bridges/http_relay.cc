#include "bridges/http_relay.h"

#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/field.h"
#include "http/body.h"

namespace sluice::bridges {
namespace {

using upstreams::HttpExchange;
using upstreams::HttpFailure;
using upstreams::HttpRequest;

// ---- The request

// One pair of a Cookie field (RFC 6265 4.2.1) or of a query; empty if there is none.
std::string_view find_pair(std::string_view list, char separator, std::string_view name) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(separator), list.size());
    const std::string_view pair = trim(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
    if (pair.starts_with(name) && pair.substr(name.size()).starts_with('=')) {
      return pair.substr(name.size() + 1);
    }
  }
  return {};
}

std::string_view find_parameter(const ClientRequest& request, std::string_view name) {
  for (const auto& [parameter, value] : request.parameters) {
    if (parameter == name) return value;
  }
  return find_pair(request.request.query, '&', name);
}

http::ForwardRules forward_rules(const config::HeaderRules& rules) {
  http::ForwardRules result{.set = {}, .remove = rules.remove};
  for (const auto& [name, value] : rules.set) result.set.push_back({name, value});
  return result;
}

// The query as it came, even if it is no more than its question mark.
std::string upstream_target(const std::string& rewrite, const ClientRequest& request) {
  const http::Request& received = request.request;
  if (received.path == "*") return received.path;  // OPTIONS for the whole server
  std::string result = http::rewrite_path(rewrite, received.path, request.rest, request.parameters);
  if (received.target.find('?') != std::string::npos) result.append("?").append(received.query);
  return result;
}

// ---- The response

// What stands in Content-Length: the body's length, or (HEAD) that of a body which does not come.
std::optional<std::uint64_t> content_length(const http::ResponseHead& head) {
  const std::optional<std::string> text = head.header("content-length");
  if (!text) return {};
  std::uint64_t length = 0;
  const char* const end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, length);
  if (error != std::errc() || stop != end) return {};
  return length;
}

http::Response client_response(const http::ResponseHead& head) {
  http::Response response;
  response.status = head.status;
  response.reason_phrase = head.reason_phrase;
  response.headers = http::response_headers(head);
  return response;
}

http::Response refusal_after(const HttpFailure& failure) {
  switch (const int status = failure.http_status()) {
    case 503:
      return http::refusal(status, "the upstream has no room", {{"Retry-After", "1"}});
    case 504:
      return http::refusal(status, "the upstream did not answer in time");
    default:
      if (failure.dial) return http::refusal(status, "the upstream cannot be reached");
      return http::refusal(status, "the upstream did not answer properly");
  }
}

// ---- The relay

class HttpRelay final : public Relay, private HttpExchange::Owner {
 public:
  explicit HttpRelay(const HttpRoute& route) : route_(&route) {}
  // For a response that has begun to come.
  HttpRelay(std::unique_ptr<HttpExchange> exchange, const http::ResponseHead& head)
      : exchange_(std::move(exchange)), head_(head) {
    exchange_->set_owner(*this);
    exchange_->pause();
  }

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
    exchange_->end_body(trailers);
  }

  void on_drain() override { exchange_->resume(); }

  void on_gone() override {
    client_ = nullptr;
    if (exchange_ != nullptr) exchange_->cancel();
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

  void respond(const http::ResponseHead& head) {
    responded_ = true;
    name_upstream();
    http::Response response = client_response(head);
    response.content_length = content_length(head);
    client_->respond(response);
  }

  void name_upstream() {
    const upstreams::Endpoint* const endpoint = exchange_->endpoint();
    client_->name_upstream(exchange_->upstream().name(),
                           endpoint == nullptr ? std::string_view() : endpoint->name());
  }

  std::size_t high_watermark_bytes() const { return exchange_->request().high_watermark_bytes; }

  const HttpRoute* route_ = nullptr;
  RelayClient* client_ = nullptr;
  std::unique_ptr<HttpExchange> exchange_;
  const std::optional<http::ResponseHead> head_;  // of a response that has begun
  bool responded_ = false;
  bool body_paused_ = false;  // the client's, since the upstream does not read
};

}  // namespace

HttpRelayFactory::HttpRelayFactory(const HttpRoute& route) : route_(route) {}

HttpRelayFactory::~HttpRelayFactory() = default;

std::unique_ptr<Relay> HttpRelayFactory::create() {
  return std::make_unique<HttpRelay>(route_);
}

namespace {

template <typename Target>  // HttpTarget or WebhookTarget
HttpRequest request_to(const Target& target, const HttpRoute& route, const ClientRequest& request) {
  const std::string client_ip = request.client.ip();
  const http::ForwardedFrom from{.client_ip = client_ip,
                                 .secure = request.secure,
                                 .trusted = route.trusted_proxies.contains(client_ip)};
  return {.method = request.request.method,
          .target = upstream_target(target.rewrite, request),
          .headers = http::forwarded_headers(request.request, from, forward_rules(target.headers)),
          .body = http::request_framing(request.request),
          .hash_key = hash_key(route.upstream->config(), request),
          .response_timeout_ms = target.response_timeout_ms,
          .high_watermark_bytes = route.route.buffers.high_watermark_bytes,
          .low_watermark_bytes = route.route.buffers.low_watermark_bytes};
}

}  // namespace

HttpRequest upstream_request(const HttpRoute& route, const ClientRequest& request) {
  if (const auto* webhook = std::get_if<config::WebhookTarget>(&route.route.target)) {
    return request_to(*webhook, route, request);
  }
  return request_to(std::get<config::HttpTarget>(route.route.target), route, request);
}

std::string hash_key(const config::Upstream& upstream, const ClientRequest& request) {
  using Kind = config::HashOn::Kind;
  if (upstream.balance != config::Balance::hash) return {};
  const std::string& name = upstream.hash_on.name;
  switch (upstream.hash_on.kind) {
    case Kind::client:
      return request.client.ip();
    case Kind::header:
      return request.request.header(name).value_or("");
    case Kind::cookie:
      return std::string(find_pair(request.request.header("cookie").value_or(""), ';', name));
    case Kind::parameter:
      return std::string(find_parameter(request, name));
  }
  return {};
}

std::unique_ptr<Relay> relay_response(std::unique_ptr<HttpExchange> exchange,
                                      const http::ResponseHead& head) {
  return std::make_unique<HttpRelay>(std::move(exchange), head);
}

}  // namespace sluice::bridges
