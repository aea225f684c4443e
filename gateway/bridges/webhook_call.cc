#include "bridges/webhook_call.h"

#include <algorithm>
#include <utility>

#include "base/crypto.h"

namespace sluice::bridges {
namespace {

// What the exchange is given at once of a request's body.
constexpr std::size_t piece_bytes = 64 * 1024;

std::uint64_t delay_ms(unsigned retry) {
  return (std::uint64_t{1000} << retry) + random_mask() % 1000;
}

}  // namespace

WebhookCall::WebhookCall(const HttpRoute& route, Owner& owner)
    : route_(route),
      owner_(owner),
      retry_alarm_(route.context.wheel, *this, &WebhookCall::attempt),
      answer_due_(route.context.wheel, *this, &WebhookCall::on_answer_due) {}

WebhookCall::~WebhookCall() = default;

void WebhookCall::post(upstreams::HttpRequest request, std::string body, Retry retry) {
  busy_ = true;
  request_ = std::move(request);
  request_.method = "POST";
  request_.body = {http::BodyFraming::Kind::length, body.size()};
  body_ = std::move(body);
  retry_ = retry;
  retries_ = 0;
  attempt();
}

void WebhookCall::attempt() {
  head_ = {};
  reply_.clear();
  body_sent_ = 0;
  answer_due_.set(request_.response_timeout_ms);
  exchange_ = std::make_unique<upstreams::HttpExchange>(
      route_.context, route_.pool, route_.upstream, request_,
      static_cast<upstreams::HttpExchange::Owner&>(*this));
  send_body();
}

void WebhookCall::send_body() {
  // on_request_drain() comes if it went over, not if it is just full.
  while (body_sent_ < body_.size() &&
         exchange_->request_buffered() <= request_.high_watermark_bytes) {
    const Bytes rest = as_bytes(body_).subspan(body_sent_);
    const Bytes piece = rest.first(std::min(rest.size(), piece_bytes));
    body_sent_ += piece.size();
    exchange_->send_body(piece);
    if (body_sent_ == body_.size()) exchange_->end_body();
  }
  if (body_.empty()) exchange_->end_body();
}

void WebhookCall::cancel() {
  busy_ = false;
  body_ = {};
  reply_ = {};
  retry_alarm_.clear();
  retire_exchange();
}

// Time that it took to connect is not the answer's, and bounded by the exchange.
void WebhookCall::on_answer_due() {
  const std::uint64_t now_ms = route_.context.wheel.now_ms();
  const std::uint64_t due_ms =
      exchange_->connected_ms().value_or(now_ms) + request_.response_timeout_ms;
  if (due_ms > now_ms) return answer_due_.set(due_ms - now_ms);
  const bool sent = body_sent_ == body_.size() && exchange_->request_buffered() == 0 &&
                    exchange_->request_buffered_tls() == 0;
  const bool answered = head_.status != 0;
  count_failure();
  on_exchange_failure({.kind = upstreams::HttpFailure::Kind::timeout,
                       .detail = exchange_->endpoint()->name() + ": no whole response in time",
                       .request_sent = sent || answered});
}

// One that is none to the exchange.
void WebhookCall::count_failure() {
  route_.upstream->counters().request_failures.add();
}

void WebhookCall::retire_exchange() {
  answer_due_.clear();
  if (exchange_ != nullptr) exchange_->cancel();  // or it may still count a failure of its own
  route_.context.turn.retire(std::move(exchange_));
}

std::size_t WebhookCall::buffered_tls() const {
  return exchange_ == nullptr ? 0 : exchange_->request_buffered_tls();
}

std::size_t WebhookCall::held_bytes() const {
  const std::size_t sending = exchange_ == nullptr ? 0 : exchange_->request_buffered();
  return body_.size() + reply_.size() + sending + buffered_tls();
}

void WebhookCall::on_response(const http::ResponseHead& head) {
  head_ = head;
}

void WebhookCall::on_response_body(Bytes piece) {
  if (exchange_ == nullptr) return;  // it was too much already
  if (reply_.size() + piece.size() <= reply_bytes_max) {
    reply_ += as_text(piece);
    return;
  }
  count_failure();
  fail({502, "an answer of more than " + std::to_string(reply_bytes_max) + " bytes"});
}

void WebhookCall::on_response_end(const std::vector<http::Header>&) {
  if (exchange_ == nullptr) return;
  busy_ = false;
  retire_exchange();
  body_ = {};
  // The owner may post the next call at once.
  const http::ResponseHead head = std::move(head_);
  const std::string reply = std::exchange(reply_, {});
  owner_.on_reply(head, reply);
}

void WebhookCall::on_request_drain() {
  if (exchange_ != nullptr && body_sent_ < body_.size()) send_body();
}

void WebhookCall::on_exchange_failure(const upstreams::HttpFailure& failure) {
  if (exchange_ == nullptr) return;
  const bool connecting = failure.kind == upstreams::HttpFailure::Kind::connect;
  const bool unseen = !failure.request_sent && head_.status == 0;
  const bool again = retry_ == Retry::if_not_done && (connecting || unseen);
  if (!again || retries_ == retries_max) {
    return fail({failure.http_status(), failure.detail, !connecting});
  }
  retire_exchange();
  retry_alarm_.set(delay_ms(retries_++));
}

void WebhookCall::fail(const Failure& failure) {
  cancel();
  owner_.on_call_failed(failure);
}

}  // namespace sluice::bridges
