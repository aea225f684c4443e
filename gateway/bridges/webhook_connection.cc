#include "bridges/webhook_connection.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "bridges/upstream_failure.h"
#include "bridges/webhook_request.h"
#include "http/response.h"
#include "ws/close_code.h"

namespace sluice::bridges {
namespace {

// What an event takes besides its content, so that empty ones are not free.
constexpr std::size_t event_overhead_bytes = 64;

// For the pauses between all tries of the last request.
constexpr std::uint64_t last_retries_ms = 40'000;

std::size_t cost(std::size_t content_bytes) {
  return content_bytes + event_overhead_bytes;
}

}  // namespace

WebhookConnection::WebhookConnection(const HttpRoute& route, ClientSocket& socket)
    : route_(route),
      target_(std::get<config::WebhookTarget>(route.route.target)),
      socket_(&socket),
      id_(socket.id()),
      call_(route, *this),
      deadline_(route.context.wheel, *this, &WebhookConnection::run_out) {}

WebhookConnection::~WebhookConnection() = default;

// ---- The turn

void WebhookConnection::on_turn_end() {
  if (over_ && socket_ == nullptr) {
    if (keeper_ != nullptr) keeper_->on_bridge_done(*this);
    return;
  }
  const bool closing = given_up_ && socket_ != nullptr;
  if (!over_ && !closing && !call_.busy() && !client_is_full()) on_turn();
  report_buffered();
}

// An answer to what we would ask now has no place at the client. on_drain() will come.
bool WebhookConnection::client_is_full() const {
  return is_open() && socket_->buffered_amount() > buffers().high_watermark_bytes;
}

void WebhookConnection::report_buffered() {
  if (socket_ != nullptr) socket_->set_upstream_buffered(queued_bytes_, call_.buffered_tls());
}

// ---- The queue

void WebhookConnection::push(EventType type, std::string content) {
  queued_bytes_ += cost(content.size());
  queue_.push_back({type, std::move(content)});
  if (is_full() && !paused_ && is_open()) {
    paused_ = true;
    socket_->pause();
  }
  wake();
}

void WebhookConnection::pop() {
  queued_bytes_ -= cost(queue_.front().content.size());
  queue_.pop_front();
  resume_client();
  if (socket_ == nullptr && !over_) await_last_call();  // there is progress, and no more comes
}

void WebhookConnection::await_last_call() {
  deadline_.set(2 * target_.response_timeout_ms + last_retries_ms +
                (WebhookCall::retries_max + 1) * route_.connect_timeout_ms);
}

void WebhookConnection::shorten_first(std::size_t bytes) {
  queue_.front().content.erase(0, bytes);
  queued_bytes_ -= bytes;
  resume_client();
  if (socket_ == nullptr && !over_) await_last_call();
}

void WebhookConnection::clear_queue() {
  queue_.clear();
  queued_bytes_ = 0;
  resume_client();
}

// In the midst of whatever it was.
void WebhookConnection::drop_queue() {
  call_.cancel();
  clear_queue();
  on_queue_dropped();
  wake();
}

void WebhookConnection::drop_all_but_end() {
  const EventType end = queue_.back().type;
  std::string content = std::move(queue_.back().content);
  drop_queue();
  await_last_call();
  push(end, std::move(content));
}

void WebhookConnection::resume_client() {
  if (queued_bytes_ <= buffers().low_watermark_bytes) read_client();
}

void WebhookConnection::read_client() {
  if (std::exchange(paused_, false) && socket_ != nullptr) socket_->resume();
}

// ---- The beginning

// A little later than connecting has failed, which says more, and before the client's own deadline,
// which would name nobody.
void WebhookConnection::await_opening() {
  const std::uint64_t timeout_ms = route_.connect_timeout_ms;
  deadline_.set(timeout_ms + std::min<std::uint64_t>(timeout_ms / 4, 250));
}

void WebhookConnection::accept(const http::ResponseHead& head,
                               const std::vector<std::string>& offered) {
  if (!is_connecting()) return;
  const std::string protocol = chosen_protocol(head, route_.route, offered);
  if (!protocol.empty() && std::ranges::find(offered, protocol) == offered.end()) {
    return give_up_invalid("the backend chose a subprotocol that the client did not offer");
  }
  deadline_.clear();
  socket_->accept_as(protocol, opening_headers(head));
}

// ---- The end

void WebhookConnection::on_close(const CloseEvent& event) {
  on_client_gone(event);
  socket_ = nullptr;
  paused_ = false;
  if (over_) return;
  await_last_call();
  wake();
}

void WebhookConnection::give_up_unanswered(const WebhookCall::Failure& failure) {
  end_client(failure.http_status, ws::bad_gateway, failure.detail);
  if (!failure.reached) finish();
}

void WebhookConnection::give_up_invalid(const std::string& detail) {
  end_client(502, ws::internal_error, detail);
}

void WebhookConnection::end_client(int http_status, std::uint16_t code, const std::string& detail) {
  if (is_connecting()) {
    socket_->reject_with(http::refusal(http_status, "the backend does not answer as it should"),
                         handshake_result(http_status), detail);
    return finish();
  }
  if (is_open()) {
    socket_->close_with({.code = code,
                         .text = "backend failed",
                         .initiator = metrics::Initiator::upstream,
                         .reason = metrics::CloseReason::upstream_failed,
                         .detail = detail});
  } else {
    log_warning("webhook failed", detail);
  }
  given_up_ = true;
  if (socket_ != nullptr) return drop_queue();
  if (!owes_end()) return finish();
  drop_all_but_end();
}

void WebhookConnection::refuse(http::Response response, std::string_view why) {
  if (is_connecting()) {
    socket_->reject_with(std::move(response), metrics::HandshakeResult::upstream_refused, why);
  }
  finish();
}

void WebhookConnection::finish() {
  over_ = true;
  call_.cancel();
  clear_queue();
  deadline_.clear();
  wake();
}

void WebhookConnection::run_out() {
  if (is_connecting()) {
    socket_->reject_with(
        http::refusal(504, "the backend does not answer as it should"),
        metrics::HandshakeResult::upstream_timeout,
        route_.upstream->name() + ": no decision within requests.handshake_timeout");
    return;  // on_close() follows
  }
  log_warning("webhook failed", "no answer in time to what the client said last");
  finish();
}

// Of a client that is there, and was let in, the service still hears the end.
void WebhookConnection::cut() {
  if (over_) return;
  if (call_.busy() || !queue_.empty()) log_warning("webhook failed", "cut off");
  if (socket_ == nullptr || is_connecting()) return finish();
  drop_queue();
}

// What no record of a client tells.
void WebhookConnection::log_warning(std::string_view event, std::string_view why) const {
  log::warning(event, {{"conn", id_}, {"route", route_.route.name}, {"why", why}});
}

}  // namespace sluice::bridges
