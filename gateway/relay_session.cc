#include "relay_session.h"

#include "base/field.h"

namespace sluice {
namespace {

// What is gathered during a turn before the kernel is asked to take some of it.
constexpr std::size_t gather_bytes = 64 * 1024;

// Requests that a client sends before it got the answer to this one wait in the kernel beyond this.
constexpr std::size_t held_bytes_max = 64 * 1024;

bool has_no_body(int status) {
  return status == 204 || status == 304;
}

}  // namespace

RelaySession::RelaySession(std::unique_ptr<Relay> relay, ClientRequest request,
                           net::Transport& transport, Settings settings, Owner& owner)
    : relay_(std::move(relay)),
      request_(request),
      transport_(transport),
      settings_(settings),
      owner_(owner),
      body_(http::request_framing(request_.request)),
      close_after_(settings.close_after) {}

RelaySession::~RelaySession() = default;

void RelaySession::start() {
  started_ = true;
  relay_->on_request(request_, *this);
  if (state_ != State::answering) return;
  // RFC 9110 10.1.1: the client may wait for this before it sends the body. Once the answer has
  // begun, it would stand in the midst of it.
  const http::Request& request = request_.request;
  if (!responded_ && request.has_body && request.version_minor > 0 &&
      request.has_token("expect", "100-continue")) {
    http::Response go_on;
    go_on.status = 100;
    put(go_on);
  }
  take_body(std::exchange(held_, {}));
}

// ---- The request's body

void RelaySession::receive(Bytes bytes) {
  if (!expects_body() || body_paused_ || !held_.empty() || !started_) {
    held_.insert(held_.end(), bytes.begin(), bytes.end());
    update_reading();
  } else {
    take_body(bytes);
  }
}

void RelaySession::take_body(Bytes bytes) {
  while (!body_.ended() && !body_paused_ && state_ == State::answering) {
    const http::BodyReader::Step step = body_.read(bytes);
    if (step.error != nullptr) {
      close_after_ = true;
      if (responded_) return abort_response(step.error);
      return refuse(http::refusal(400, step.error), step.error);
    }
    body_bytes_ += static_cast<std::uint32_t>(step.payload.size());
    if (!step.payload.empty()) relay_->on_body(step.payload);
    if (step.end) relay_->on_body_end(body_.trailers());
    if (bytes.empty()) break;
  }
  held_.assign(bytes.begin(), bytes.end());
  update_reading();
  refuse_cut_off_body();
}

void RelaySession::on_client_end() {
  client_ended_ = true;
  if (started_) refuse_cut_off_body();
}

// RFC 9112 8. An answer that has begun goes on: the client may have closed its direction because of
// it.
void RelaySession::refuse_cut_off_body() {
  if (!client_ended_ || !expects_body() || !held_.empty() || state_ != State::answering) return;
  if (!responded_) refuse(http::refusal(400, "the body is not complete"), "request body cut off");
}

void RelaySession::pause_body() {
  body_paused_ = true;
  update_reading();
}

void RelaySession::resume_body() {
  if (!body_paused_) return;
  body_paused_ = false;
  owner_.on_relay_wake();
}

void RelaySession::update_reading() {
  // Once the body is whole, reading shows whether the client is still there.
  transport_.read(expects_body() ? !body_paused_ && held_.empty() : held_.size() < held_bytes_max);
}

// ---- The response

http::ResponseContext RelaySession::context() const {
  return {.head = request_.request.method == "HEAD",
          .keep_alive = !close_after_,
          .version_minor = request_.request.version_minor,
          .date = owner_.http_date()};
}

// Appends a head, and the body that the response carries itself.
bool RelaySession::put(const http::Response& response) {
  const auto bytes = http::serialise(response, context());
  if (!bytes) {
    why_broken_ = bytes.error().message;
    return false;
  }
  transport_.output().append(as_bytes(*bytes));
  wrote();
  return true;
}

void RelaySession::inform(const http::Response& head) {
  if (responded_ || state_ != State::answering || request_.request.version_minor == 0) return;
  if (!put(head)) end_with(State::broken);
}

void RelaySession::respond(const http::Response& head) {
  if (responded_ || state_ != State::answering) return;
  http::Response sent = head;
  bodiless_ = request_.request.method == "HEAD" || has_no_body(head.status);
  open_ended_ = !head.content_length && !bodiless_;
  if (!head.content_length && !has_no_body(head.status)) {
    chunked_ = request_.request.version_minor > 0;
    // The end of the connection is the end of the body.
    if (!chunked_ && !bodiless_) close_after_ = true;
  }
  // Nobody reads the rest of a body that nobody is interested in.
  if (expects_body()) close_after_ = true;
  sent.chunked = chunked_;
  sent.until_close = !head.content_length && !chunked_;
  if (!put(sent)) {
    const http::Response bad = http::refusal(502, "the upstream's response cannot be passed on");
    return refuse(bad, why_broken_);
  }
  responded_ = true;
  owner_.on_relay_response(head.status, {});
}

void RelaySession::refuse(const http::Response& response, std::string_view why) {
  if (responded_ || state_ != State::answering) return;
  close_after_ = close_after_ || response.close || expects_body();
  responded_ = true;
  owner_.on_relay_response(response.status, why);
  end_with(put(response) ? State::complete : State::broken);
}

void RelaySession::send_body(Bytes piece) {
  if (!responded_ || state_ != State::answering || bodiless_ || piece.empty()) return;
  if (chunked_) {
    http::append_chunk(piece, transport_.output());
  } else {
    transport_.output().append(piece);
  }
  wrote();
  over_high_ = over_high_ || buffered_amount() > settings_.buffers.high_watermark_bytes;
}

void RelaySession::end_response(const std::vector<http::Header>& trailers) {
  if (!responded_ || state_ != State::answering) return;
  if (chunked_ && !bodiless_) http::append_last_chunk(trailers, transport_.output());
  end_with(State::complete);
}

void RelaySession::abort_response(std::string_view why) {
  if (state_ != State::answering) return;
  why_broken_ = why;
  end_with(State::broken);
}

void RelaySession::wrote() {
  if (transport_.output().size() >= gather_bytes && !transport_.blocked()) transport_.flush();
  owner_.on_relay_wake();
}

void RelaySession::end_with(State state) {
  state_ = state;
  owner_.on_relay_wake();
}

// ---- The turn

// The kernel may have taken everything at once: then nothing else tells that there is room again.
void RelaySession::on_flushed() {
  if (state_ != State::answering) return;
  const std::size_t amount = buffered_amount();
  over_high_ = over_high_ || amount > settings_.buffers.high_watermark_bytes;
  if (over_high_ && amount <= settings_.buffers.low_watermark_bytes) owner_.on_relay_wake();
}

void RelaySession::turn_end() {
  if (!started_) start();
  if (state_ != State::answering) return;
  if (over_high_ && buffered_amount() <= settings_.buffers.low_watermark_bytes) {
    over_high_ = false;
    relay_->on_drain();
  }
  if (!body_.ended() && !body_paused_) take_body(std::exchange(held_, {}));
  update_reading();
}

void RelaySession::time_out() {
  close_after_ = true;
  if (responded_ || transport_.blocked() || !expects_body()) {
    return abort_response("the client does not go on");
  }
  refuse(http::refusal(408, "the request did not arrive in time"), "request body timed out");
}

bool RelaySession::waits_for_client() const {
  return transport_.blocked() || (expects_body() && !body_paused_);
}

std::unique_ptr<Relay> RelaySession::end() {
  if (relay_ != nullptr && started_) relay_->on_gone();
  return std::move(relay_);
}

}  // namespace sluice
