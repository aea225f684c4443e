#include "connection.h"

#include <algorithm>
#include <utility>

#include "access_log.h"
#include "base/log.h"
#include "base/path_pattern.h"
#include "base/percent.h"
#include "exchange.h"
#include "http/origin.h"
#include "net/tls_transport.h"
#include "worker.h"
#include "ws/close_code.h"
#include "ws/handshake.h"

namespace sluice {
namespace {

using metrics::HandshakeResult;
using metrics::TlsResult;

// Output that may wait while requests are answered or a file is sent; then the client has to read.
constexpr std::size_t response_bytes_high = 256 * 1024;

// What is read of a file in one round of a turn, which has up to 16: the other connections of the
// worker want theirs too.
constexpr std::size_t body_bytes_per_round = 64 * 1024;

// What is held of a client that sends before it has the answer to its opening handshake. Up to
// there it is read, since only reading shows that it has gone.
constexpr std::size_t early_bytes_max = 64 * 1024;

// How long we read on after an error response, so that the client gets to see it: a socket that is
// closed with unread bytes is reset, and the response with it (RFC 9112 9.6).
constexpr std::uint64_t linger_ms = 2'000;

// What remains of the path below the prefix of a pattern that ends in "/*".
std::string_view below_prefix(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with("/*")) return path;
  const auto segments = std::count(pattern.begin(), pattern.end(), '/') - 1;
  for (std::ptrdiff_t i = 0; i < segments; ++i) path.remove_prefix(path.find('/', 1));
  return path;
}

HandshakeResult result_of(http::Refusal::Kind kind) {
  switch (kind) {
    case http::Refusal::Kind::not_websocket:
      return HandshakeResult::not_websocket;
    case http::Refusal::Kind::bad_request:
      return HandshakeResult::bad_request;
    case http::Refusal::Kind::method:
      return HandshakeResult::method_not_allowed;
    case http::Refusal::Kind::version:
      return HandshakeResult::rejected_version;
  }
  return HandshakeResult::bad_request;
}

}  // namespace

Connection::Connection(Worker& worker, std::uint32_t serial, std::size_t place, int fd,
                       const net::Endpoint& peer, const net::TlsContext* tls, Admission admission)
    : worker_(worker),
      serial_(serial),
      peer_(peer),
      place_(static_cast<std::uint32_t>(place)),
      admission_(admission) {
  if (tls != nullptr) {
    phase_ = Phase::securing;
    transport_ = std::make_unique<net::TlsTransport>(worker.loop(), worker.buffers(), fd, *tls,
                                                     static_cast<net::Transport::Owner&>(*this));
  } else {
    transport_ = std::make_unique<net::PlainTransport>(worker.loop(), worker.buffers(), fd,
                                                       static_cast<net::Transport::Owner&>(*this));
  }
  begin();
}

Connection::Connection(Worker& worker, std::uint32_t serial, std::size_t place,
                       std::unique_ptr<net::Transport> transport, const net::Endpoint& peer)
    : worker_(worker),
      serial_(serial),
      peer_(peer),
      place_(static_cast<std::uint32_t>(place)),
      admission_(Admission::uncounted),
      transport_(std::move(transport)) {
  transport_->set_owner(static_cast<net::Transport::Owner&>(*this));
  begin();
}

void Connection::begin() {
  const config::RequestLimits& limits = worker_.config().requests;
  exchange_ =
      std::make_unique<Exchange>(http::ParserLimits{.headers_max = limits.headers_max,
                                                    .head_bytes_max = limits.head_bytes_max,
                                                    .target_bytes_max = limits.target_bytes_max});
  set_deadline(limits.handshake_timeout_ms);
  transport_->read(true);
  transport_->tell_resets_at_once();  // nobody is left to be answered
}

std::uint64_t Connection::id() const {
  return worker_.id_of(serial_);
}

Connection::~Connection() {
  if (counted_ && admission_ != Admission::uncounted) {
    worker_.clients().leave(peer_, counted_open_);
  }
}

// ---- What the transport says

void Connection::on_secure() {
  const bool is_1_3 = std::string_view(transport_->tls_version()) == "TLSv1.3";
  count_tls(is_1_3 ? TlsResult::tls1_3 : TlsResult::tls1_2);
  phase_ = Phase::reading;
}

void Connection::on_receive(MutableBytes bytes) {
  switch (phase_) {
    case Phase::reading:
      if (exchange_->held.empty()) {
        read_requests(bytes);
      } else {
        hold(bytes);  // behind what waits there already
      }
      break;
    case Phase::deciding:
    case Phase::responding:
      hold(bytes);
      break;
    case Phase::relaying:
      exchange_->relay->receive(bytes);
      break;
    case Phase::open:
      receive_early();
      session_->receive(bytes);
      break;
    case Phase::securing:
    case Phase::lingering:
    case Phase::finished:
      break;
  }
  follow_relay();
  flush();
}

void Connection::on_end() {
  peer_ended_ = true;
  switch (phase_) {
    case Phase::open:
      receive_early();
      session_->on_peer_end();
      break;
    case Phase::reading:
      end_of_requests();
      break;
    case Phase::responding:
      break;  // the client may close its direction and still wait for what it asked for
    case Phase::relaying:
      // A client may close its direction and wait for the answer. One that does so in the midst of
      // a stream has left: it may be silent for long, and its upstream is to know. An orderly end
      // would make of what it has got a whole response.
      if (exchange_->relay->streaming()) {
        transport_->reset_on_close();
        finish();
        break;
      }
      exchange_->relay->on_client_end();
      follow_relay();
      break;
    case Phase::deciding:
      count_handshake(HandshakeResult::aborted);
      finish();
      break;
    case Phase::lingering:
      if (transport_->buffered_bytes() == 0) finish();
      break;
    case Phase::securing:
      count_tls(TlsResult::failed);
      count_handshake(HandshakeResult::aborted);
      finish();
      break;
    case Phase::finished:
      break;
  }
  flush();
}

// No further request can come, but for those that are held.
void Connection::end_of_requests() {
  if (!exchange_->held.empty()) return;
  if (exchange_->parser.started()) {
    count_handshake(HandshakeResult::aborted);
    if (transport_->buffered_bytes() == 0) return finish();
  }
  linger();  // what it asked for before may still be on its way
}

void Connection::on_sent() {
  switch (phase_) {
    case Phase::open:
      session_->on_sent();
      break;
    case Phase::responding:
      set_deadline(worker_.config().requests.keep_alive_timeout_ms);
      pump_body();
      break;
    case Phase::reading:
      // The end of the response before may still be on its way.
      if (answers()) {
        set_deadline(worker_.config().requests.keep_alive_timeout_ms);
      }
      read_held();
      break;
    case Phase::lingering:
      set_linger_deadline();
      if (peer_ended_ && transport_->buffered_bytes() == 0) finish();
      break;
    case Phase::securing:
    case Phase::deciding:
    case Phase::relaying:
    case Phase::finished:
      break;
  }
  flush();
}

void Connection::on_failure(net::FailureKind kind, const Error& error) {
  switch (phase_) {
    case Phase::open:
      session_->on_failure(kind, error);
      break;
    case Phase::securing:
      count_tls(TlsResult::failed);
      count_handshake(HandshakeResult::tls_error);
      log::debug("tls failed",
                 {{"conn", id()}, {"client", peer_.to_string()}, {"why", error.message}});
      break;
    case Phase::reading:
      if (exchange_->parser.started()) count_handshake(HandshakeResult::aborted);
      break;
    case Phase::deciding:
      count_handshake(HandshakeResult::aborted);
      break;
    case Phase::responding:
    case Phase::relaying:
    case Phase::lingering:
    case Phase::finished:
      break;
  }
  finish();
}

// ---- Requests

void Connection::read_requests(MutableBytes bytes) {
  while (phase_ == Phase::reading && !bytes.empty() &&
         transport_->output().size() < response_bytes_high) {
    std::size_t consumed = 0;
    const bool started = exchange_->parser.started();
    if (!started) exchange_->started_ns = uv::now_ns();
    const auto status = exchange_->parser.feed(bytes, consumed);
    bytes = bytes.subspan(consumed);
    if (status == http::RequestParser::Status::complete) {
      handle_request();
    } else if (status == http::RequestParser::Status::error) {
      const http::RequestError& error = exchange_->parser.error();
      exchange_->close_after = true;
      refuse(HandshakeResult::bad_request, error.status, error.message);
    } else if (!started && exchange_->parser.started() && exchange_->kept) {
      // A further request on a kept connection has as long as the first.
      set_deadline(worker_.config().requests.handshake_timeout_ms);
    }
  }
  if (phase_ == Phase::open) {
    exchange_.reset();
    // The first frame may have come with the request, and so may the end of all.
    if (!bytes.empty()) session_->receive(bytes);
    if (peer_ended_) session_->on_peer_end();
  } else if (phase_ == Phase::deciding && peer_ended_) {
    // As on_end() has it; for an upgrade that was held until an earlier answer was complete.
    count_handshake(HandshakeResult::aborted);
    finish();
  } else if (phase_ == Phase::relaying) {
    if (!bytes.empty()) exchange_->relay->receive(bytes);
    if (peer_ended_) exchange_->relay->on_client_end();
  } else if (!bytes.empty() && phase_ != Phase::lingering && phase_ != Phase::finished) {
    hold(bytes);
    if (phase_ == Phase::reading) wake();  // to go on as soon as the answers have left
  } else if (phase_ == Phase::reading && peer_ended_) {
    end_of_requests();
  }
}

void Connection::hold(Bytes bytes) {
  exchange_->held.insert(exchange_->held.end(), bytes.begin(), bytes.end());
  transport_->read(phase_ == Phase::deciding && exchange_->held.size() < early_bytes_max);
}

void Connection::read_held() {
  if (phase_ != Phase::reading || transport_->output().size() >= response_bytes_high) return;
  std::vector<std::uint8_t> held = std::move(exchange_->held);
  exchange_->held.clear();
  transport_->read(true);
  read_requests(held);
}

void Connection::handle_request() {
  const http::Request& request = exchange_->request();
  // A body would have to be read before the next request; of what we serve only relays take one.
  exchange_->close_after = !request.keep_alive || request.has_body || draining_;
  route_ = nullptr;
  RouteTable::Match match = worker_.routes().match(request.host, request.path);
  route_ = match.route;
  keep_parameters(match);  // whatever becomes of it, the log has to know what is a secret
  if (transport_->is_misdirected(request.host)) {
    // RFC 9110 15.5.20. The name that the client gave to TLS and its Host are two virtual hosts.
    route_ = nullptr;
    refuse(HandshakeResult::bad_request, 421, "this connection was made for another host");
  } else if (worker_.draining()) {
    refuse_for_now(HandshakeResult::draining, "shutting down");
  } else if (worker_.is_full() && !exchange_->kept) {  // who is in, is in
    refuse_over_limit(metrics::Limit::process_connections, "max_connections");
  } else if (admission_ == Admission::over_limit) {
    refuse_over_limit(metrics::Limit::client_connections, "clients.max_connections_per_ip");
  } else if (worker_.is_short_of_memory()) {
    counters().limit_rejections[static_cast<std::size_t>(metrics::Limit::memory)].add();
    refuse_for_now(HandshakeResult::rejected_limit, "short of memory: memory.budget");
  } else if (route_ == nullptr) {
    refuse(HandshakeResult::no_route, 404, "no route for this path");
  } else if (route_->http != nullptr) {
    handle_plain(match);
  } else if (route_->relays != nullptr && !http::is_upgrade_attempt(request)) {
    exchange_->close_after = !request.keep_alive || draining_;
    give_to_relay(route_->relays->create());
    exchange_->relay->start();
  } else if (route_->bridges != nullptr) {
    handle_upgrade(match);
  } else {
    refuse(HandshakeResult::no_route, 404, "no WebSocket at this path");
  }
}

void Connection::handle_plain(const RouteTable::Match& match) {
  const http::Request& request = exchange_->request();
  if (http::is_upgrade_attempt(request)) {
    route_ = nullptr;
    refuse(HandshakeResult::no_route, 404, "no WebSocket at this path");
    return;
  }
  auto reply =
      match.route->http->respond(request, below_prefix(match.route->config.path, request.path));
  counters().http_responses[metrics::status_class(reply.head.status)].add();
  access_log::request(worker_.config().log, subject(), request, reply.head.status, {});
  exchange_->body = std::move(reply.body);
  respond(reply.head);
}

void Connection::handle_upgrade(const RouteTable::Match& match) {
  exchange_->extensions.clear();  // of a handshake that was refused on this connection
  exchange_->chosen_protocol = {};
  auto upgrade = http::validate_upgrade(exchange_->request());
  if (!upgrade) {
    const http::Refusal& refusal = upgrade.error();
    refuse(result_of(refusal.kind), http::refusal(refusal.status, refusal.message, refusal.headers),
           refusal.message);
    return;
  }
  if (const auto offers = exchange_->request().header("Sec-WebSocket-Extensions")) {
    // RFC 6455 9.1: a server that gets something else than the grammar has fails the connection.
    auto extensions = ws::parse_extensions(*offers);
    if (!extensions) {
      return refuse(HandshakeResult::bad_request, 400, "Sec-WebSocket-Extensions is malformed");
    }
    exchange_->extensions = *std::move(extensions);
  }
  if (admit(*match.route, *upgrade)) open_bridge(match, std::move(*upgrade));
}

// The route's own rules; refuses if one of them is broken.
bool Connection::admit(ServedRoute& route, const http::Upgrade& upgrade) {
  const http::Request& request = exchange_->request();
  const std::string origin = request.header("Origin").value_or("");
  if (!http::origin_allowed(origin, transport_->secure() ? "https" : "http", request.authority,
                            route.config.allowed_origins, route.config.require_origin)) {
    refuse(HandshakeResult::rejected_origin, 403,
           origin.empty() ? "this route requires an Origin" : "origin not allowed");
    return false;
  }
  // Who chooses what was offered is the upstream; the route's list only says what it may be.
  const bool any_protocol = route.upstream_chooses_protocol && route.config.subprotocols.empty();
  if (any_protocol) return take_place(route);
  // A browser fails a socket whose offer of subprotocols goes unanswered: better to say why.
  if (!upgrade.offered_protocols.empty() && route.config.subprotocols.empty()) {
    refuse(HandshakeResult::rejected_subprotocol, 400, "this route speaks no subprotocol");
    return false;
  }
  const auto chosen = ws::select_protocol(upgrade.offered_protocols, route.config.subprotocols);
  if (!upgrade.offered_protocols.empty() && !chosen) {
    refuse(HandshakeResult::rejected_subprotocol, 400,
           "this route speaks none of the offered subprotocols");
    return false;
  }
  exchange_->chosen_protocol = chosen.value_or("");
  return take_place(route);
}

// A socket has its place on the route from here to conclude(), while the bridge decides too.
bool Connection::take_place(ServedRoute& route) {
  const std::uint32_t taken = route.open->fetch_add(1, std::memory_order_relaxed);
  const std::uint32_t open_max = route.config.limits.connections_max;
  if (open_max == 0 || taken < open_max) return true;
  route.open->fetch_sub(1, std::memory_order_relaxed);
  refuse_over_limit(metrics::Limit::route_connections, "limits.max_connections");
  return false;
}

void Connection::open_bridge(const RouteTable::Match& match, http::Upgrade upgrade) {
  Exchange& exchange = *exchange_;
  exchange.upgrade = std::move(upgrade);
  exchange.route_name = match.route->config.name;
  exchange.client = peer_.to_string();
  phase_ = Phase::deciding;
  set_deadline(worker_.config().requests.handshake_timeout_ms);
  bridge_ = match.route->bridges->create(static_cast<ClientSocket&>(*this));
  bridge_->on_open(exchange);
}

void Connection::keep_parameters(const RouteTable::Match& match) {
  exchange_->parameters.clear();
  exchange_->raw_parameters.clear();
  for (const auto& [name, value] : match.parameters) {
    exchange_->parameters.emplace_back(name, percent_decode(value));
    exchange_->raw_parameters.emplace_back(name, value);
  }
}

void Connection::refuse(HandshakeResult result, int status, std::string_view why) {
  refuse(result, http::refusal(status, why), why);
}

void Connection::refuse(HandshakeResult result, const http::Response& response,
                        std::string_view why) {
  if (is_plain_request()) {
    counters().http_responses[metrics::status_class(response.status)].add();
  } else {
    count_handshake(result);
  }
  access_log::request(worker_.config().log, subject(), exchange_->request(), response.status, why);
  respond(response);
}

// One that its route would have answered.
bool Connection::is_plain_request() const {
  const bool answers = route_ != nullptr && (route_->http != nullptr || route_->relays != nullptr);
  return answers && !http::is_upgrade_attempt(exchange_->request());
}

// For a reason that passes.
void Connection::refuse_for_now(HandshakeResult result, std::string_view why) {
  exchange_->close_after = true;
  refuse(result, http::refusal(503, why, {{"Retry-After", "1"}}), why);
}

void Connection::refuse_over_limit(metrics::Limit limit, std::string_view key) {
  counters().limit_rejections[static_cast<std::size_t>(limit)].add();
  refuse_for_now(HandshakeResult::rejected_limit, "too many connections: " + std::string(key));
}

void Connection::respond(const http::Response& response) {
  // An error may have come before there was a request.
  const http::Request& request = exchange_->request();
  http::Response sent = response;
  sent.close = response.close || exchange_->close_after;
  const http::ResponseContext context{.head = request.method == "HEAD",
                                      .keep_alive = !sent.close,
                                      .version_minor = request.version_minor,
                                      .date = worker_.http_date()};
  exchange_->close_after = http::closes(sent, context);
  const auto bytes = http::serialise(sent, context);
  if (!bytes) {
    // Nothing that we answer with should be able to break a line; if it does, nobody sees it.
    log::error("response not sent", {{"conn", id()}, {"why", bytes.error().message}});
    finish();
    return;
  }
  transport_->output().append(as_bytes(*bytes));
  phase_ = Phase::responding;
  if (context.head) exchange_->body.reset();
  if (!exchange_->body) return end_response();
  transport_->read(false);
  if (phase_ != Phase::responding) return;  // it broke
  set_deadline(worker_.config().requests.keep_alive_timeout_ms);
  pump_body();
}

void Connection::pump_body() {
  std::size_t read_bytes = 0;
  while (exchange_->body->remaining() > 0 && !transport_->blocked()) {
    if (read_bytes >= body_bytes_per_round) {
      // The client takes what it is sent, so it is the disk that takes its time.
      set_deadline(worker_.config().requests.keep_alive_timeout_ms);
      return wake();
    }
    std::uint8_t piece[16 * 1024];
    const auto count = exchange_->body->read(piece);
    if (!count) {
      // The length was promised: only a broken connection tells the client that this is not all.
      log::warning("file not sent", {{"conn", id()}, {"why", count.error().message}});
      transport_->reset_on_close();
      finish();
      return;
    }
    transport_->output().append({piece, *count});
    read_bytes += *count;
    if (transport_->output().size() >= response_bytes_high) transport_->flush();
    if (phase_ != Phase::responding) return;
  }
  if (exchange_->body->remaining() == 0) {
    exchange_->body.reset();
    end_response();
  }
}

void Connection::end_response() {
  if (exchange_->close_after) {
    linger();
    return;
  }
  await_next_request();
}

void Connection::await_next_request() {
  exchange_->parser.reset();
  exchange_->upstream.clear();
  exchange_->endpoint.clear();
  exchange_->kept = true;
  phase_ = Phase::reading;
  route_ = nullptr;
  set_deadline(worker_.config().requests.keep_alive_timeout_ms);
  if (exchange_->held.empty() && !peer_ended_) {
    transport_->read(true);
  } else {
    wake();
  }
}

// ---- Relays

// Which begins at the turn's end, if it is not started before.
void Connection::give_to_relay(std::unique_ptr<Relay> relay) {
  phase_ = Phase::relaying;
  set_deadline(TimerWheel::never);
  const std::uint64_t timeout_ms = route_->config.keepalive.tcp_user_timeout_ms;
  if (std::exchange(exchange_->user_timeout_ms, timeout_ms) != timeout_ms) {
    transport_->set_user_timeout(worker_.wheel(), timeout_ms);
  }
  exchange_->relay =
      std::make_unique<RelaySession>(std::move(relay), handshake(), *transport_,
                                     RelaySession::Settings{.buffers = route_->config.buffers,
                                                            .close_after = exchange_->close_after,
                                                            .connection_id = id()},
                                     static_cast<RelaySession::Owner&>(*this));
  wake();
}

void Connection::on_relay_response(int status, std::string_view why) {
  std::string refused;  // answer_plainly() has counted it
  if (is_plain_request()) {
    counters().http_responses[metrics::status_class(status)].add();
  } else if (why.empty()) {
    why = refused = "the upstream answered " + std::to_string(status);
  }
  access_log::request(worker_.config().log, subject(), exchange_->request(), status, why);
}

void Connection::on_relay_upstream(std::string_view upstream, std::string_view endpoint) {
  name_upstream(upstream, endpoint);
}

std::string_view Connection::http_date() {
  return worker_.http_date();
}

// What has become of the relay in the last event.
void Connection::follow_relay() {
  if (phase_ != Phase::relaying) return;
  switch (exchange_->relay->state()) {
    case RelaySession::State::answering:
      return;
    case RelaySession::State::complete:
      return end_relay();
    case RelaySession::State::broken:
      log::warning("response broken off",
                   {{"conn", id()}, {"why", exchange_->relay->why_broken()}});
      transport_->reset_on_close();
      return finish();
  }
}

void Connection::end_relay() {
  const std::unique_ptr<RelaySession> relay = std::move(exchange_->relay);
  exchange_->close_after = relay->closes();
  exchange_->held = relay->take_rest();
  worker_.turn().retire(relay->end());
  if (exchange_->close_after) {
    linger();
  } else {
    await_next_request();
  }
}

// A client that lets us wait, by not sending its body or by not reading, has as long as one that
// keeps a connection for nothing. So has one that closed its direction: it may still read, but if
// the response makes no progress, nobody can tell it from one that is gone.
void Connection::watch_relayed_client() {
  if (!exchange_->relay->waits_for_client() && !peer_ended_) return set_deadline(TimerWheel::never);
  // What it sends of later requests is no progress.
  const std::uint32_t moved = transport_->taken_bytes() + exchange_->relay->body_bytes();
  if (due_ms() != TimerWheel::never && moved == exchange_->moved_bytes) return;
  exchange_->moved_bytes = moved;
  set_deadline(worker_.config().requests.keep_alive_timeout_ms);
}

// Whether a response is on its way, or its end.
bool Connection::answers() const {
  return phase_ == Phase::responding || phase_ == Phase::relaying ||
         (phase_ == Phase::lingering && exchange_ != nullptr) ||
         (phase_ == Phase::reading && exchange_->kept && !exchange_->parser.started());
}

// Whether the client has taken some of what waits for it since it was last asked. Of what the
// kernel has, it tells late: after half of it.
bool Connection::reads_slowly() {
  if (transport_->buffered_bytes() == 0) return false;
  const std::uint64_t acknowledged = transport_->progress().acknowledged_bytes;
  return std::exchange(exchange_->acknowledged_bytes, acknowledged) != acknowledged;
}

// ---- The bridge's side of the opening handshake

bool Connection::accept(std::string_view protocol) {
  if (phase_ != Phase::deciding) return true;
  if (protocol.empty()) protocol = exchange_->chosen_protocol;
  if (!protocol.empty() && !exchange_->offers(protocol)) return false;
  agree_on_protocol(protocol);
  open_session();
  return true;
}

void Connection::reject(int status, std::string_view reason) {
  if (phase_ != Phase::deciding) return;
  const int sent = status >= 400 && status <= 599 ? status : 500;
  exchange_->close_after = true;
  refuse(HandshakeResult::rejected_plugin, sent, reason);
  wake();
}

void Connection::accept_as(std::string_view protocol, std::vector<http::Header> headers,
                           std::string_view extensions) {
  if (phase_ != Phase::deciding) return;
  if (!protocol.empty() && !exchange_->offers(protocol)) {
    return fail("it accepted a subprotocol that the client did not offer");
  }
  agree_on_protocol(protocol);
  open_session(std::move(headers), extensions);
}

void Connection::name_upstream(std::string_view upstream, std::string_view endpoint) {
  if (exchange_ == nullptr) return;
  exchange_->upstream = upstream;
  exchange_->endpoint = endpoint;
}

void Connection::reject_with(http::Response response, HandshakeResult result,
                             std::string_view why) {
  if (phase_ != Phase::deciding) return;
  exchange_->close_after = true;
  refuse(result, response, why);
  wake();
}

void Connection::answer_plainly(std::unique_ptr<Relay> relay) {
  // The client has left in this very turn; the relay is in the midst of an event of its upstream's.
  if (phase_ != Phase::deciding) return worker_.turn().retire(std::move(relay));
  count_handshake(HandshakeResult::upstream_refused);
  // What the client sent behind its handshake was meant for a WebSocket.
  exchange_->close_after = true;
  exchange_->held.clear();
  give_to_relay(std::move(relay));
}

ClientRequest Connection::handshake() const {
  const http::Request& request = exchange_->request();
  return {.request = request,
          .rest = below_prefix(route_->config.path, request.path),
          .parameters = exchange_->raw_parameters,
          .client = peer_,
          .secure = transport_->secure()};
}

// permessage-deflate on the route's terms (RFC 7692 7). `answer` becomes what the client is told.
ws::Compression Connection::agree_on_compression(std::string& answer) {
  using Mode = config::Compression::Mode;
  const SessionSettings& settings = route_->session;
  const Mode mode = settings.compression.mode;
  if (mode != Mode::shared && mode != Mode::dedicated) return {};
  const auto agree_to = [&](bool dedicated) -> std::optional<ws::Compression> {
    const auto agreement = ws::agree_to_deflate(exchange_->extensions,
                                                deflate_policy(settings.compression, dedicated));
    if (!agreement) return ws::Compression{};
    auto made = ws::make_compression(ws::Role::server, agreement->parameters,
                                     settings.protocol.compression);
    if (made) answer = agreement->field;
    return made;
  };
  if (auto made = agree_to(mode == Mode::dedicated)) return *std::move(made);
  // There is no memory for a context of its own.
  counters().limit_rejections[static_cast<std::size_t>(metrics::Limit::compression_memory)].add();
  return agree_to(false).value_or(ws::Compression{});
}

// Most sockets have none.
void Connection::agree_on_protocol(std::string_view protocol) {
  if (!protocol.empty()) protocol_ = std::make_unique<std::string>(protocol);
}

std::string_view Connection::protocol() const {
  return protocol_ == nullptr ? std::string_view() : *protocol_;
}

void Connection::open_session(std::vector<http::Header> headers, std::string_view extensions) {
  std::string agreed(extensions);
  ws::Compression compression{.use = ws::Compression::Use::pass};
  if (agreed.empty()) compression = agree_on_compression(agreed);
  http::Response switching;
  switching.status = 101;
  switching.headers = std::move(headers);
  switching.headers.push_back({"Upgrade", "websocket"});
  switching.headers.push_back({"Sec-WebSocket-Accept", ws::accept_key(exchange_->upgrade.key)});
  if (protocol_ != nullptr) switching.headers.push_back({"Sec-WebSocket-Protocol", *protocol_});
  if (!agreed.empty()) switching.headers.push_back({"Sec-WebSocket-Extensions", agreed});
  const auto head = http::serialise(switching, {});
  if (!head) return fail("its answer cannot be passed on: " + head.error().message);
  transport_->output().append(as_bytes(*head));

  // Of a request before on this connection: the session has its own route's.
  if (exchange_->user_timeout_ms != 0) transport_->set_user_timeout(worker_.wheel(), 0);

  phase_ = Phase::open;
  opened_ms_ = worker_.loop().now_ms();
  set_deadline(TimerWheel::never);
  count_handshake(HandshakeResult::accepted);
  const std::uint64_t handshake_us = (uv::now_ns() - exchange_->started_ns) / 1000;
  counters().handshake_duration.observe(metrics::handshake_bounds_us, handshake_us);
  counters().connections_opened.add();
  if (admission_ != Admission::uncounted) {
    counted_open_ = true;
    worker_.clients().opened(peer_);
  }
  counters().connections_active[transport_->secure() ? 1 : 0].add();
  if (!route_->sessions) {
    route_->sessions.emplace(SessionContext{route_->session, worker_.wheel(), counters()});
  }
  session_ = std::make_unique<Session>(ws::Role::server, *route_->sessions, *transport_,
                                       static_cast<Session::Owner&>(*this), std::move(compression));
  access_log::open(worker_.config().log, subject(), exchange_->request(),
                   {.protocol = loggable_protocol(),
                    .extensions = agreed,
                    .tls = transport_->tls_version(),
                    .handshake_us = handshake_us});
  transport_->read(true);
  if (exchange_->paused) session_->pause(Session::asked);
  if (draining_) session_->drain();
  wake();
}

// What the route does not list is the client's own word, and for some upstreams a token.
std::string_view Connection::loggable_protocol() const {
  const auto& listed = route_->config.subprotocols;
  const bool known = std::find(listed.begin(), listed.end(), protocol()) != listed.end();
  return protocol().empty() || known ? protocol() : "[redacted]";
}

// Accepted outside of an event of ours: what came after the request is still held.
void Connection::receive_early() {
  if (exchange_ == nullptr) return;
  const std::unique_ptr<Exchange> exchange = std::move(exchange_);
  session_->receive(exchange->held);
}

// ---- The bridge's side of the session

ReadyState Connection::ready_state() const {
  if (session_ != nullptr) return session_->ready_state();
  return phase_ == Phase::deciding ? ReadyState::connecting : ReadyState::closed;
}

std::size_t Connection::buffered_amount() const {
  return session_ != nullptr ? session_->buffered_amount() : 0;
}

void Connection::send(MessageType type, Bytes payload) {
  if (session_ != nullptr) session_->send(type, payload);
}

bool Connection::close(std::uint16_t code, std::string_view reason) {
  return session_ != nullptr && session_->close(code, reason, metrics::Initiator::plugin);
}

void Connection::fail(std::string_view what) {
  log::error(
      "plugin failed",
      {{"conn", id()}, {"route", route_ == nullptr ? "" : route_->config.name}, {"why", what}});
  if (phase_ == Phase::deciding) {
    reject(500, "the plugin failed");
  } else if (session_ != nullptr) {
    session_->close_by_rule(ws::internal_error, metrics::CloseReason::plugin_failed,
                            "plugin failed", metrics::Initiator::plugin);
  }
}

void Connection::begin_frame(MessageType type, bool message_start, bool message_end,
                             std::uint64_t payload_bytes, bool compressed) {
  if (session_ == nullptr) return;
  session_->begin_frame(type, message_start, message_end, payload_bytes, compressed);
}

void Connection::send_payload(Bytes piece) {
  if (session_ != nullptr) session_->send_payload(piece);
}

void Connection::pass_on(const MessagePiece& piece) {
  if (session_ != nullptr) session_->pass_on(piece);
}

bool Connection::send_prepared(ws::PreparedMessage& message) {
  return session_ != nullptr && session_->send_prepared(message);
}

void Connection::close_with(const Ending& ending) {
  if (session_ != nullptr) session_->close_with(ending);
}

void Connection::abort(const Ending& ending) {
  if (session_ != nullptr) session_->abort(ending.initiator, ending.reason, ending.detail);
}

void Connection::set_upstream_buffered(std::size_t app_bytes, std::size_t tls_bytes) {
  if (session_ == nullptr || (slot_ == nullptr && app_bytes + tls_bytes == 0)) return;
  if (slot().upstream_bytes.get() != app_bytes) session_->on_upstream_progress();
  slot().upstream_bytes.set(app_bytes);
  slot().upstream_tls_bytes.set(tls_bytes);
  drop_empty_slot();
}

void Connection::pause() {
  if (session_ != nullptr) return session_->pause(Session::asked);
  if (phase_ == Phase::deciding) exchange_->paused = true;
}

void Connection::resume() {
  if (session_ != nullptr) return session_->resume(Session::asked);
  if (phase_ == Phase::deciding) exchange_->paused = false;
}

// ---- What the session says

void Connection::on_session_message(MessageType type, Bytes payload) {
  bridge_->on_message(type, payload);
}

bool Connection::on_session_piece(const MessagePiece& piece) {
  return bridge_->on_piece(piece);
}

void Connection::on_session_drain() {
  bridge_->on_drain();
}

void Connection::on_session_wake() {
  wake();
}

void Connection::on_session_waiting() {
  const Session::Waiting waiting = session_->waiting();
  if (slot_ == nullptr && waiting == Session::Waiting{}) return;
  slot().buffered_bytes.set(waiting.app_bytes);
  slot().buffered_tls_bytes.set(waiting.tls_bytes);
  slot().inbound_bytes.set(waiting.inbound_bytes);
  slot().paused.store(waiting.paused, std::memory_order_relaxed);
  slot().read_paused.store(waiting.read_paused, std::memory_order_relaxed);
  drop_empty_slot();
}

// What a scrape sees of the connection, for as long as something waits.
metrics::ConnectionSlot& Connection::slot() {
  if (slot_ == nullptr) slot_ = &worker_.counters().connections.take(route_->index);
  return *slot_;
}

void Connection::drop_empty_slot() {
  if (!slot_->empty()) return;
  worker_.counters().connections.give_back(*slot_);
  slot_ = nullptr;
}

void Connection::on_session_end() {
  const SessionEnd& end = *session_->end();
  const bool close_frame_sent = session_->close_sent() && end.code != ws::abnormal;
  if (close_frame_sent || peer_ended_ || end.initiator == metrics::Initiator::upstream) {
    // RFC 6455 7.1.1: the server closes first, and waits for the client to follow. A client that
    // closed its own direction first may still read what it was sent; so may one whose upstream
    // broke off, up to there.
    wake();
    linger();
    return;
  }
  if (end.initiator == metrics::Initiator::gateway || end.initiator == metrics::Initiator::plugin) {
    transport_->reset_on_close();
  }
  finish();
}

// ---- Time

void Connection::set_deadline(std::uint64_t delay_ms) {
  TimerWheel& wheel = worker_.wheel();
  wheel.set(*this, delay_ms == TimerWheel::never ? TimerWheel::never : wheel.now_ms() + delay_ms);
}

void Connection::on_deadline() {
  if (answers() && reads_slowly()) {
    return set_deadline(worker_.config().requests.keep_alive_timeout_ms);
  }
  switch (phase_) {
    case Phase::securing:
      count_tls(TlsResult::timeout);
      count_handshake(HandshakeResult::timeout);
      finish();
      break;
    case Phase::reading:
      on_request_timeout();
      break;
    case Phase::deciding:
      exchange_->close_after = true;
      refuse(HandshakeResult::timeout, 504, "the other side did not decide in time");
      wake();  // the bridge hears of it
      break;
    case Phase::relaying:
      exchange_->relay->time_out();
      follow_relay();
      break;
    case Phase::responding:
    case Phase::lingering:
      // What the kernel has taken already, it delivers by itself after an orderly close.
      if (phase_ == Phase::responding || transport_->buffered_bytes() > 0) {
        transport_->reset_on_close();
      }
      finish();
      break;
    case Phase::open:
      session_->on_deadline();
      break;
    case Phase::finished:
      break;
  }
  flush();
}

void Connection::on_request_timeout() {
  if (!exchange_->parser.started()) {
    finish();  // a connection that was opened, or kept, for nothing
    return;
  }
  exchange_->close_after = true;
  refuse(HandshakeResult::timeout, 408, "the request did not arrive in time");
}

// ---- Ends

void Connection::wake() {
  if (waking_) return;
  waking_ = true;
  worker_.wake(*this);
}

void Connection::turn_end() {
  waking_ = false;
  if (phase_ == Phase::open) {
    receive_early();
    session_->turn_end();
  } else if (phase_ == Phase::reading) {
    read_held();
  } else if (phase_ == Phase::responding) {
    pump_body();
  } else if (phase_ == Phase::relaying) {
    exchange_->relay->turn_end();
    follow_relay();
  }
  if (phase_ == Phase::finished && exchange_ != nullptr && exchange_->relay != nullptr) {
    worker_.turn().retire(exchange_->relay->end());
  }
  if (session_ != nullptr && session_->end() != nullptr) conclude();
  if (session_ == nullptr && bridge_ != nullptr && phase_ != Phase::deciding) conclude();
  if (phase_ != Phase::finished) flush();
}

void Connection::flush() {
  if (phase_ == Phase::finished) return;
  if (!transport_->output().empty() && !transport_->blocked()) transport_->flush();
  if (session_ != nullptr) session_->on_flushed();
  if (phase_ != Phase::relaying) return;
  exchange_->relay->on_flushed();
  watch_relayed_client();
}

void Connection::linger() {
  phase_ = Phase::lingering;
  transport_->read(!peer_ended_);
  transport_->shutdown();
  if (phase_ != Phase::lingering) return;  // it broke
  set_linger_deadline();                   // only now it is known what waits for the client
  if (peer_ended_ && transport_->buffered_bytes() == 0) finish();
}

// As long as the peer takes what waits for it, it may take its time.
void Connection::set_linger_deadline() {
  if (exchange_ == nullptr) {
    set_deadline(route_->session.timeouts.close_ms);
  } else if (transport_->buffered_bytes() > 0) {
    set_deadline(worker_.config().requests.keep_alive_timeout_ms);
  } else {
    set_deadline(linger_ms);
  }
}

void Connection::finish() {
  if (phase_ == Phase::finished) return;
  phase_ = Phase::finished;
  set_deadline(TimerWheel::never);
  transport_->read(false);
  wake();
  worker_.retire(*this);
}

void Connection::drain() {
  draining_ = true;
  switch (phase_) {
    case Phase::open:
      session_->drain();
      break;
    case Phase::responding:
      exchange_->close_after = true;
      break;
    case Phase::relaying:
      exchange_->relay->close_after();
      break;
    case Phase::reading:
      if (!exchange_->parser.started()) linger();
      break;
    case Phase::securing:
      count_tls(TlsResult::failed);
      count_handshake(HandshakeResult::draining);
      finish();
      break;
    case Phase::deciding:
    case Phase::lingering:
    case Phase::finished:
      break;
  }
  flush();
}

void Connection::cut() {
  if (session_ != nullptr) {
    session_->abort(metrics::Initiator::gateway, metrics::CloseReason::drain,
                    "shutdown.drain_timeout");
  }
  transport_->reset_on_close();
  finish();
}

std::uint64_t Connection::held_bytes() const {
  if (phase_ == Phase::finished) return 0;  // at the end of the turn it is gone
  std::uint64_t bytes = transport_->buffered_bytes();
  if (session_ != nullptr) bytes += session_->held_bytes();
  if (bridge_ != nullptr) bytes += bridge_->held_bytes();
  if (exchange_ == nullptr) return bytes;
  bytes += exchange_->held.size();
  if (exchange_->relay != nullptr) bytes += exchange_->relay->held_bytes();
  return bytes;
}

// No Close frame: it would stand behind everything that is to be got rid of.
void Connection::evict() {
  if (phase_ == Phase::finished) return;
  log::warning("evicted", {{"conn", id()}, {"client", peer_.to_string()}, {"bytes", held_bytes()}});
  if (bridge_ != nullptr) bridge_->cut();  // or it would go on without us, with all that it holds
  if (session_ != nullptr) {
    session_->abort(metrics::Initiator::gateway, metrics::CloseReason::overload, "memory.budget");
  }
  transport_->reset_on_close();
  finish();
}

// Tells everybody that the session, or the attempt at one, is over.
void Connection::conclude() {
  CloseEvent event{.code = ws::abnormal, .reason = {}, .was_clean = false};
  if (session_ != nullptr) {
    const SessionEnd& end = *session_->end();
    event = {.code = end.code,
             .reason = end.text,
             .was_clean = end.was_clean,
             .initiator = end.initiator};
    counters()
        .connections_closed[static_cast<std::size_t>(end.initiator)]
                           [static_cast<std::size_t>(end.reason)]
        .add();
    counters().duration.observe(metrics::duration_bounds_ms, worker_.loop().now_ms() - opened_ms_);
    access_log::close(worker_.config().log, subject(), end, session_->totals(),
                      worker_.loop().now_ms() - opened_ms_);
  }
  auto bridge = std::move(bridge_);
  bridge->on_close(event);
  counted_ = !worker_.part_with(std::move(bridge), places());
  if (counted_) route_->open->fetch_sub(1, std::memory_order_relaxed);
  if (session_ == nullptr) return;
  session_.reset();
  counters().connections_active[transport_->secure() ? 1 : 0].subtract();
  if (slot_ == nullptr) return;
  worker_.counters().connections.give_back(*slot_);
  slot_ = nullptr;
}

ClientPlaces Connection::places() const {
  const bool by_address = admission_ != Admission::uncounted;
  return {.client = by_address ? std::optional(peer_) : std::nullopt,
          .opened = counted_open_,
          .open_on_route = route_->open};
}

// ---- Counting and logging

metrics::RouteCounters& Connection::counters() const {
  metrics::WorkerCounters& counters = worker_.counters();
  return route_ == nullptr ? counters.no_route() : counters.routes[route_->index];
}

access_log::Subject Connection::subject() const {
  access_log::Subject subject{id(), peer_,
                              route_ == nullptr ? "none" : std::string_view(route_->config.name)};
  if (exchange_ != nullptr) {
    subject.upstream = exchange_->upstream;
    subject.endpoint = exchange_->endpoint;
    for (const auto& [name, value] : exchange_->raw_parameters) {
      if (name == "token") subject.token = value;
    }
  }
  return subject;
}

void Connection::count_tls(TlsResult result) const {
  worker_.counters().tls_handshakes[static_cast<std::size_t>(result)].add();
}

void Connection::count_handshake(HandshakeResult result) const {
  counters().handshakes[static_cast<std::size_t>(result)].add();
}

}  // namespace sluice
