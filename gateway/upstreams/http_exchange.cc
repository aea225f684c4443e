#include "upstreams/http_exchange.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/field.h"
#include "http/forward.h"
#include "http/response_parser.h"

namespace sluice::upstreams {
namespace {

// What is kept of a body that was sent, so that it can be sent once more.
constexpr std::size_t repeatable_bytes_max = 64 * 1024;

// 1xx responses before the one that counts.
constexpr int informational_max = 32;

// RFC 9110 9.2.2: doing it twice is like doing it once.
bool is_idempotent(std::string_view method) {
  constexpr std::array<std::string_view, 6> methods = {"GET", "HEAD",   "OPTIONS",
                                                       "PUT", "DELETE", "TRACE"};
  return std::ranges::find(methods, method) != methods.end();
}

// Keep-Alive: timeout=5, max=100
std::optional<std::uint64_t> keep_alive_timeout_ms(const http::ResponseHead& head) {
  constexpr std::string_view name = "timeout=";
  const std::optional<std::string> field = head.header("keep-alive");
  if (!field) return {};
  for (const std::string_view parameter : split_list(*field)) {
    if (!equals_ignoring_case(parameter.substr(0, name.size()), name)) continue;
    std::uint32_t seconds = 0;
    const char* const end = parameter.data() + parameter.size();
    const auto [stop, error] = std::from_chars(parameter.data() + name.size(), end, seconds);
    if (error == std::errc() && stop == end) return std::uint64_t{seconds} * 1000;
  }
  return {};
}

// With the field that tells how long its body is.
HttpRequest with_framing(HttpRequest request) {
  switch (request.body.kind) {
    case http::BodyFraming::Kind::length:
      request.headers.push_back({"Content-Length", std::to_string(request.body.length)});
      break;
    case http::BodyFraming::Kind::chunked:
      request.headers.push_back({"Transfer-Encoding", "chunked"});
      break;
    default:
      break;
  }
  return request;
}

}  // namespace

int HttpFailure::http_status() const {
  if (kind == Kind::timeout) return 504;
  return dial ? dial->http_status() : 502;
}

struct HttpExchange::State final : private Turn::Entry,
                                   private TimerWheel::Entry,
                                   private Dial::Owner,
                                   private net::Transport::Owner {
  enum class Phase : std::uint8_t {
    connecting,
    awaiting,   // the request is being sent, or the response's head is to come
    receiving,  // the response's body
    upgraded,   // a 101 came, and nobody has taken the stream yet
    over,
  };

  State(WorkerContext& context, HttpPool& pool, std::shared_ptr<Upstream> upstream,
        HttpRequest request, HttpExchange::Owner& owner)
      : context_(context),
        pool_(pool),
        upstream_(std::move(upstream)),
        request_(with_framing(std::move(request))),
        owner_(&owner) {
    if (request_.handshake_timeout_ms != 0) {
      answer_due_ms_ = context_.wheel.now_ms() + request_.handshake_timeout_ms;
    }
    body_left_ = request_.body.length;
    body_ended_ = request_.body.kind == http::BodyFraming::Kind::none;
    upstream_->counters().requests.add();
    start();
  }
  ~State() override = default;

  // ---- What the owner asks for

  void send_body(Bytes piece) {
    if (body_ended_ || is_over()) return;
    if (request_.body.kind == http::BodyFraming::Kind::length) {
      piece =
          piece.first(static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), body_left_)));
      body_left_ -= piece.size();
    }
    if (piece.empty()) return;
    if (holding_) held_.insert(held_.end(), piece.begin(), piece.end());
    if (transport_ != nullptr) append_body(piece);
    if (request_buffered() > request_.high_watermark_bytes) over_high_ = true;
    context_.turn.wake(*this);
  }

  void end_body(const std::vector<http::Header>& trailers) {
    if (body_ended_ || is_over()) return;
    body_ended_ = true;
    trailers_ = trailers;
    if (transport_ != nullptr) append_end_of_body();
    context_.turn.wake(*this);
  }

  std::size_t request_buffered() const {
    if (is_over()) return 0;
    return transport_ == nullptr ? held_.size() : transport_->output().size();
  }

  std::size_t request_buffered_tls() const {
    return transport_ == nullptr ? 0 : transport_->encrypted_bytes();
  }

  void pause() {
    paused_ = true;
    if (transport_ != nullptr) transport_->read(false);
  }

  void resume() {
    if (!paused_) return;
    paused_ = false;
    context_.turn.wake(*this);
  }

  void cancel() {
    if (is_over()) return;
    end();
    close();
  }

  Upgraded take_upgraded() {
    if (phase_ != Phase::upgraded) return {};
    end();
    return {std::move(transport_), std::move(lease_), std::exchange(input_, {})};
  }

  void set_owner(HttpExchange::Owner& owner) { owner_ = &owner; }
  const HttpRequest& request() const { return request_; }
  const Upstream& upstream() const { return *upstream_; }
  const Endpoint* endpoint() const { return endpoint_; }
  std::optional<std::uint64_t> connected_ms() const { return connected_ms_; }

 private:
  // ---- Connecting

  void start() {
    Result<std::string> head =
        http::serialise_request(request_.method, request_.target, request_.headers);
    if (!head) {
      unsendable_ = head.error().message;
      context_.turn.wake(*this);
      return;
    }
    head_ = std::move(*head);
    if (request_.upgrade) return dial({});
    // Whose turn it is comes first, and then whether a connection to it is kept.
    auto picked = upstream_->pick(request_.hash_key, {});
    if (!picked) return dial({});
    if (auto idle = pool_.take(upstream_, *picked)) {
      upstream_->counters().reused.add();
      kept_ = true;
      attach(std::move(*idle));
    } else {
      dial(std::move(*picked));
    }
  }

  void dial(Lease first) {
    dial_ = std::make_unique<Dial>(
        context_, upstream_,
        DialOptions{.hash_key = request_.hash_key, .timeout_ms = request_.connect_timeout_ms},
        static_cast<Dial::Owner&>(*this), std::move(first));
  }

  // A Dial that was cancelled may have been woken for this turn before that: it still tells.
  void on_dialled(Dialled dialled) override {
    if (is_over()) {
      return retire(context_.turn, {std::move(dialled.transport), std::move(dialled.lease)});
    }
    context_.turn.retire(std::move(dial_));
    attach({std::move(dialled.transport), std::move(dialled.lease)});
  }

  void on_dial_failed(const DialFailure& failure) override {
    if (is_over()) return;
    context_.turn.retire(std::move(dial_));
    fail(
        HttpFailure{.kind = HttpFailure::Kind::connect, .dial = failure, .detail = failure.detail});
  }

  // Sends what there is of the request.
  void attach(HttpPool::Idle connection) {
    transport_ = std::move(connection.transport);
    lease_ = std::move(connection.lease);
    endpoint_ = lease_.endpoint();
    connected_ms_ = context_.wheel.now_ms();
    user_timeout_ms_ = connection.user_timeout_ms;
    taken_before_ = transport_->taken_bytes();
    phase_ = Phase::awaiting;
    parser_.expect(request_.method);
    transport_->set_owner(*this);
    transport_->output().append(as_bytes(head_));
    append_body(held_);
    if (body_ended_) append_end_of_body();
    // The head alone may be so much that nothing of the body was asked for.
    if (request_buffered() > request_.high_watermark_bytes) over_high_ = true;
    transport_->read(!paused_);
    context_.turn.wake(*this);
  }

  // A kept connection that ended without a byte of the response was most likely closed for its age
  // while the request was on its way, or before it had left.
  bool may_retry() const { return kept_ && !answered_ && holding_; }

  void retry() {
    context_.wheel.set(*this, TimerWheel::never);
    close();
    kept_ = flushed_ = stream_ended_ = false;
    broken_.reset();
    phase_ = Phase::connecting;
    connected_ms_.reset();
    dial({});
  }

  // ---- Sending

  void append_body(Bytes piece) {
    if (piece.empty()) return;
    if (request_.body.kind == http::BodyFraming::Kind::chunked) {
      http::append_chunk(piece, transport_->output());
    } else {
      transport_->output().append(piece);
    }
  }

  void append_end_of_body() {
    if (request_.body.kind == http::BodyFraming::Kind::chunked) {
      http::append_last_chunk(trailers_, transport_->output());
    }
  }

  void flush() {
    if (transport_ == nullptr || broken_) return;
    const std::size_t before = transport_->buffered_bytes();
    if (before > 0) transport_->flush();
    after_sending(transport_->buffered_bytes() < before);
  }

  void on_sent() override { after_sending(true); }

  void after_sending(bool progress) {
    // What the kernel did not take, since the upstream had broken the connection, was not sent.
    flushed_ = flushed_ || transport_->taken_bytes() != taken_before_;
    if (holding_ && flushed_ && !is_repeatable()) {
      holding_ = false;
      held_ = {};
      head_ = {};
    }
    set_deadline(progress);
    if (over_high_ && request_buffered() <= request_.low_watermark_bytes) {
      over_high_ = false;
      owner_->on_request_drain();
    }
  }

  // What the upstream may have begun is not begun again, unless that makes no difference. A new
  // connection was not closed for its age.
  bool is_repeatable() const {
    return kept_ && is_idempotent(request_.method) && held_.size() <= repeatable_bytes_max;
  }

  bool request_sent() const {
    if (!body_ended_ || !flushed_) return false;
    return transport_ == nullptr ||
           (!transport_->write_failed() && transport_->buffered_bytes() == 0);
  }

  // While the upstream has all there is of a body that the client has not sent yet, it is not the
  // upstream that lets us wait.
  void set_deadline(bool progress) {
    if (phase_ != Phase::awaiting) return;
    if (!body_ended_ && transport_->buffered_bytes() == 0) {
      context_.wheel.set(*this, TimerWheel::never);
    } else if (progress || due_ms() == TimerWheel::never) {
      context_.wheel.set(
          *this, std::min(context_.wheel.now_ms() + request_.response_timeout_ms, answer_due_ms_));
    }
  }

  void on_deadline() override {
    fail(HttpFailure{.kind = HttpFailure::Kind::timeout, .detail = named("no response in time")});
  }

  // ---- Receiving

  void on_secure() override {}

  void on_receive(MutableBytes bytes) override {
    answered_ = true;
    if (paused_ || !input_.empty() || phase_ == Phase::upgraded) {
      input_.insert(input_.end(), bytes.begin(), bytes.end());
    } else {
      advance(bytes);
    }
  }

  void on_end() override {
    stream_ended_ = true;
    if (phase_ == Phase::upgraded) return break_off("connection closed");
    if (input_.empty()) advance({});
  }

  // Comes from inside of our own calls too.
  void on_failure(net::FailureKind, const Error& error) override {
    broken_ = error.message;
    context_.turn.wake(*this);
  }

  void on_turn_end() override {
    if (is_over()) return;
    if (unsendable_) {
      return fail(HttpFailure{.kind = HttpFailure::Kind::malformed, .detail = *unsendable_});
    }
    if (transport_ == nullptr) return;
    if (phase_ != Phase::upgraded) {
      const std::vector<std::uint8_t> input = std::exchange(input_, {});
      advance(input);
    }
    if (is_over() || transport_ == nullptr) return;
    if (broken_ && !paused_) return break_off(*broken_);
    if (!paused_ && phase_ != Phase::upgraded) transport_->read(true);
    flush();
  }

  // Takes apart what has come, as far as the owner wants to have it.
  void advance(Bytes bytes) {
    while (!paused_) {
      if (phase_ == Phase::awaiting && !bytes.empty()) {
        read_head(bytes);
      } else if (phase_ == Phase::receiving && reader_->ended()) {
        return finish(bytes.empty());
      } else if (phase_ == Phase::receiving && (!bytes.empty() || !begun_)) {
        read_body(bytes);
      } else {
        break;
      }
    }
    if (is_over() || phase_ == Phase::upgraded) return;
    // If something is left, the owner has called pause().
    input_.assign(bytes.begin(), bytes.end());
    if (stream_ended_ && !paused_) return end_of_stream();
    if (phase_ == Phase::receiving) watch_kernel();
  }

  // No deadline holds for what is left of a response: it may be a stream of events. Most come whole
  // and never need it.
  void watch_kernel() {
    if (std::exchange(user_timeout_ms_, request_.user_timeout_ms) == request_.user_timeout_ms) {
      return;
    }
    transport_->set_user_timeout(context_.wheel, request_.user_timeout_ms);
  }

  void read_head(Bytes& bytes) {
    std::size_t consumed = 0;
    const http::ResponseParser::Status status = parser_.feed(bytes, consumed);
    bytes = bytes.subspan(consumed);
    if (status == http::ResponseParser::Status::error) return fail_malformed(parser_.error());
    if (status == http::ResponseParser::Status::need_more) return;
    const http::ResponseHead& head = parser_.head();
    if (head.status == 101) {
      switch_protocols(bytes);
    } else if (head.status < 200) {
      inform();
    } else {
      context_.wheel.set(*this, TimerWheel::never);
      phase_ = Phase::receiving;
      reader_.emplace(head.framing);
      owner_->on_response(head);
    }
  }

  void inform() {
    if (++informational_ > informational_max) return fail_malformed("too many 1xx responses");
    if (due_ms() != TimerWheel::never) set_deadline(true);
    owner_->on_informational(parser_.head());
    if (!is_over()) parser_.expect(request_.method);
  }

  // RFC 9110 7.8: nobody may switch to what was not asked for.
  void switch_protocols(Bytes& rest) {
    if (!request_.upgrade) return fail_malformed("a 101 that was not asked for");
    context_.wheel.set(*this, TimerWheel::never);
    phase_ = Phase::upgraded;
    input_.assign(rest.begin(), rest.end());
    rest = {};
    transport_->read(false);
    owner_->on_response(parser_.head());
  }

  void read_body(Bytes& bytes) {
    begun_ = true;
    const http::BodyReader::Step step = reader_->read(bytes);
    if (!step.payload.empty()) owner_->on_response_body(step.payload);
    if (step.error != nullptr && !is_over()) fail_malformed(step.error);
  }

  void end_of_stream() {
    if (phase_ == Phase::receiving && reader_->end_of_stream()) return finish(true);
    break_off("connection closed");
  }

  // `clean`: nothing follows the response.
  void finish(bool clean) {
    const http::ResponseHead& head = parser_.head();
    const bool reusable = clean && head.keep_alive && !request_.upgrade && !stream_ended_ &&
                          !broken_ && request_sent() && body_left_ == 0;
    end();
    if (reusable) {
      pool_.give_back(upstream_, {std::move(transport_), std::move(lease_), user_timeout_ms_},
                      keep_alive_timeout_ms(head));
    } else {
      close();
    }
    owner_->on_response_end(reader_->trailers());
  }

  // ---- Ending

  void break_off(std::string_view why) {
    if (may_retry()) return retry();
    using Kind = HttpFailure::Kind;
    if (phase_ == Phase::receiving) {
      fail(HttpFailure{.kind = Kind::cut_off, .detail = named(why) + " within the response"});
    } else {
      fail(HttpFailure{.kind = Kind::broken, .detail = named(why) + " before the response"});
    }
  }

  void fail_malformed(std::string_view what) {
    fail(HttpFailure{.kind = HttpFailure::Kind::malformed, .detail = named(what)});
  }

  void fail(HttpFailure failure) {
    upstream_->counters().request_failures.add();
    failure.request_sent = request_sent();
    end();
    close();
    owner_->on_exchange_failure(failure);
  }

  std::string named(std::string_view what) const {
    std::string text = endpoint_ == nullptr ? upstream_->name() : endpoint_->name();
    return text.append(": ").append(what);
  }

  bool is_over() const { return phase_ == Phase::over; }

  void end() {
    phase_ = Phase::over;
    context_.wheel.set(*this, TimerWheel::never);
  }

  void close() {
    if (dial_ != nullptr) context_.turn.retire(std::move(dial_));
    retire(context_.turn, {std::move(transport_), std::move(lease_)});
  }

  WorkerContext& context_;
  HttpPool& pool_;
  const std::shared_ptr<Upstream> upstream_;
  const HttpRequest request_;
  HttpExchange::Owner* owner_;
  Phase phase_ = Phase::connecting;

  // The connection.
  bool kept_ = false;     // it comes from the pool
  bool flushed_ = false;  // something was sent on it, for this request
  std::uint32_t taken_before_ = 0;
  bool answered_ = false;      // something has come on it
  bool stream_ended_ = false;  // it said that no more comes
  std::optional<std::string> broken_;
  std::uint64_t user_timeout_ms_ = 0;  // as the transport has it
  const Endpoint* endpoint_ = nullptr;
  std::optional<std::uint64_t> connected_ms_;

  // The request.
  std::uint64_t answer_due_ms_ = TimerWheel::never;  // whatever happens
  std::optional<std::string> unsendable_;
  std::string head_;
  std::uint64_t body_left_ = 0;  // of a body with a length
  bool body_ended_ = false;
  bool holding_ = true;  // head_ and held_ are all of it: it can be sent from its beginning
  std::vector<std::uint8_t> held_;  // for a connection that is to come
  std::vector<http::Header> trailers_;
  bool over_high_ = false;

  // The response.
  http::ResponseParser parser_;
  std::optional<http::BodyReader> reader_;
  int informational_ = 0;
  bool begun_ = false;  // reader_ was asked: a body without bytes ends then
  bool paused_ = false;
  std::vector<std::uint8_t> input_;  // received, and kept for resume() or take_upgraded()

  // Last, destroyed first: they refer to the rest.
  Lease lease_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<Dial> dial_;
};

HttpExchange::HttpExchange(WorkerContext& context, HttpPool& pool,
                           std::shared_ptr<Upstream> upstream, HttpRequest request, Owner& owner)
    : state_(
          std::make_unique<State>(context, pool, std::move(upstream), std::move(request), owner)) {}

HttpExchange::~HttpExchange() = default;

void HttpExchange::send_body(Bytes piece) {
  state_->send_body(piece);
}

void HttpExchange::end_body(const std::vector<http::Header>& trailers) {
  state_->end_body(trailers);
}

std::size_t HttpExchange::request_buffered() const {
  return state_->request_buffered();
}

std::size_t HttpExchange::request_buffered_tls() const {
  return state_->request_buffered_tls();
}

void HttpExchange::pause() {
  state_->pause();
}

void HttpExchange::resume() {
  state_->resume();
}

void HttpExchange::cancel() {
  state_->cancel();
}

void HttpExchange::set_owner(Owner& owner) {
  state_->set_owner(owner);
}

Upgraded HttpExchange::take_upgraded() {
  return state_->take_upgraded();
}

const HttpRequest& HttpExchange::request() const {
  return state_->request();
}

const Upstream& HttpExchange::upstream() const {
  return state_->upstream();
}

const Endpoint* HttpExchange::endpoint() const {
  return state_->endpoint();
}

std::optional<std::uint64_t> HttpExchange::connected_ms() const {
  return state_->connected_ms();
}

}  // namespace sluice::upstreams
