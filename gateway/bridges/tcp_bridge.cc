#include "bridges/tcp_bridge.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/percent.h"
#include "bridges/outage_watch.h"
#include "bridges/tcp_text.h"
#include "bridges/token_table.h"
#include "bridges/upstream_failure.h"
#include "bridges/upstream_request.h"
#include "net/proxy_protocol.h"
#include "upstreams/dial.h"
#include "ws/close_code.h"

namespace sluice::bridges {
namespace {

using metrics::CloseReason;
using metrics::HandshakeResult;
using metrics::Initiator;
using upstreams::Upstream;

// The first `token` of a query, decoded as a form's field and without line ends behind it, which is
// what websockify does.
std::string query_token(std::string_view query) {
  while (!query.empty()) {
    const std::string_view field = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(field.size() + 1, query.size()));
    if (!field.starts_with("token=")) continue;
    std::string value(field.substr(6));
    for (char& c : value) {
      if (c == '+') c = ' ';
    }
    value = percent_decode(value);
    while (value.ends_with('\n')) value.pop_back();
    return value;
  }
  return {};
}

std::string token_of(const UpgradeRequest& request) {
  const std::string_view segment = request.parameter("token");
  return segment.empty() ? query_token(request.query()) : std::string(segment);
}

std::string proxy_prologue(config::ProxyProtocol version, const ClientSocket& socket) {
  if (version == config::ProxyProtocol::off) return {};
  return net::proxy_header(version == config::ProxyProtocol::v1 ? net::ProxyProtocolVersion::v1
                                                                : net::ProxyProtocolVersion::v2,
                           socket.handshake().client, socket.local_endpoint());
}

}  // namespace

// One client. Up to accept() there is a Dial, from then on a transport. The upstream goes when the
// transport is broken, or when both directions have ended; the socket goes with on_close(). What
// is left of the two goes on alone: a client without an upstream to the end of its closing
// handshake, an upstream without a client until it has taken what it was sent.
class TcpBridge final : public Bridge,
                        private upstreams::Dial::Owner,
                        private net::Transport::Owner,
                        private Turn::Entry,
                        private TimerWheel::Entry,
                        private OutageWatch::Listener {
 public:
  TcpBridge(const TcpRoute& route, OutageWatch& outages, ClientSocket& socket)
      : route_(route),
        outages_(outages),
        socket_(&socket),
        conn_(socket.id()),
        type_(route.target.frames == config::TcpTarget::Frames::text ? MessageType::text
                                                                     : MessageType::binary) {
    outages_.add(*this);
  }
  ~TcpBridge() override { outages_.remove(*this); }
  TcpBridge(const TcpBridge&) = delete;
  TcpBridge& operator=(const TcpBridge&) = delete;

  void on_open(const UpgradeRequest& request) override;
  bool streams() const override { return true; }
  void on_message(MessageType, Bytes) override {}  // it takes pieces
  bool on_piece(const MessagePiece& piece) override;
  void on_drain() override;
  void on_close(const CloseEvent& event) override;

  bool outlives_socket() const override { return transport_ != nullptr && !is_delivered(); }
  std::uint64_t held_bytes() const override {
    return transport_ == nullptr ? 0 : transport_->buffered_bytes();
  }
  void set_keeper(Keeper& keeper) override { keeper_ = &keeper; }
  void cut() override;

 private:
  void on_endpoint_down(const upstreams::Endpoint& endpoint) override;

  Result<std::shared_ptr<Upstream>> choose_upstream(const UpgradeRequest& request) const;
  void on_dialled(upstreams::Dialled dialled) override;
  void on_dial_failed(const upstreams::DialFailure& failure) override;

  void on_secure() override {}
  void on_receive(MutableBytes bytes) override;
  void on_end() override;
  void on_sent() override { route_.context.turn.wake(*this); }
  void on_failure(net::FailureKind kind, const Error& error) override;

  void send(Bytes bytes);
  bool send_text(Bytes bytes);
  void hold_upstream();
  void look_at_upstream();
  void fail_upstream(std::string detail);
  void end_upstream();

  void on_turn_end() override;
  void on_deadline() override;
  bool takes_bytes();
  void set_deadline();
  bool is_delivered() const;
  void drop_upstream();

  const config::Buffers& buffers() const { return route_.route.buffers; }

  const TcpRoute& route_;
  OutageWatch& outages_;
  ClientSocket* socket_;  // null after on_close()
  const std::uint64_t conn_;
  const MessageType type_;
  Keeper* keeper_ = nullptr;

  std::unique_ptr<upstreams::Dial> dial_;
  std::unique_ptr<net::Transport> transport_;
  upstreams::Lease lease_;
  TcpText text_;

  std::size_t shown_app_bytes_ = 0;  // to the upstream, as told to the socket
  std::size_t shown_tls_bytes_ = 0;
  std::uint64_t acknowledged_bytes_ = 0;  // by the upstream, when that was last looked at
  std::size_t waiting_bytes_ = 0;         // in the transport, when that was last looked at

  bool broken_ : 1 = false;           // the transport has failed, or was given up
  bool upstream_ended_ : 1 = false;   // its FIN has come
  bool ending_upstream_ : 1 = false;  // ours is on its way; what it sends is of no use any more
  bool client_paused_ : 1 = false;    // the upstream does not keep up
  bool upstream_held_ : 1 = false;    // the client does not keep up
};

// ---- The opening handshake

void TcpBridge::on_open(const UpgradeRequest& request) {
  auto upstream = choose_upstream(request);
  if (!upstream) {
    return socket_->reject_with(http::refusal(502, "the upstream cannot be reached"),
                                HandshakeResult::upstream_failed, upstream.error().message);
  }
  if (*upstream == nullptr) {
    return socket_->reject_with(http::refusal(404, "unknown token"), HandshakeResult::no_route,
                                "unknown token");
  }
  socket_->name_upstream((*upstream)->name(), {});
  upstreams::DialOptions options{.hash_key = hash_key((*upstream)->config(), socket_->handshake()),
                                 .prologue = proxy_prologue(route_.target.proxy_protocol, *socket_),
                                 .timeout_ms = route_.dial_timeout_ms};
  dial_ =
      std::make_unique<upstreams::Dial>(route_.context, std::move(*upstream), std::move(options),
                                        static_cast<upstreams::Dial::Owner&>(*this));
}

// Null: there is none for this client.
Result<std::shared_ptr<Upstream>> TcpBridge::choose_upstream(const UpgradeRequest& request) const {
  if (route_.targets->upstream != nullptr) return route_.targets->upstream;
  return route_.targets->tokens->find(token_of(request), route_.context.loop.now_ms());
}

void TcpBridge::on_dial_failed(const upstreams::DialFailure& failure) {
  route_.context.turn.retire(std::move(dial_));
  socket_->reject_with(refusal_after(failure), handshake_result(failure.http_status()),
                       failure.detail);
}

void TcpBridge::on_dialled(upstreams::Dialled dialled) {
  route_.context.turn.retire(std::move(dial_));
  transport_ = std::move(dialled.transport);
  lease_ = std::move(dialled.lease);
  socket_->name_upstream(lease_.upstream()->name(), lease_.endpoint()->name());
  transport_->set_owner(*this);
  transport_->set_user_timeout(route_.context.wheel, route_.route.keepalive.tcp_user_timeout_ms);
  transport_->read(true);
  socket_->accept();
}

// ---- From the client to the upstream

bool TcpBridge::on_piece(const MessagePiece& piece) {
  if (transport_ == nullptr || broken_ || ending_upstream_) return false;
  if (piece.type != type_) {
    const bool text = type_ == MessageType::text;
    socket_->close_with({.code = ws::unsupported_data,
                         .text = text ? "text frames only" : "binary frames only",
                         .initiator = Initiator::gateway,
                         .reason = CloseReason::unsupported_data,
                         .detail = text ? "frames: text" : "frames: binary"});
    end_upstream();
    return false;
  }
  transport_->output().append_lent(piece.payload);
  transport_->flush_soon();
  route_.context.turn.wake(*this);
  if (transport_->blocked()) look_at_upstream();  // before more of the client is read
  return true;
}

void TcpBridge::look_at_upstream() {
  const bool takes = transport_ != nullptr && !broken_;
  const std::size_t app_bytes = takes ? transport_->output().size() : 0;
  const std::size_t tls_bytes = takes ? transport_->encrypted_bytes() : 0;
  if (app_bytes != shown_app_bytes_ || tls_bytes != shown_tls_bytes_) {
    shown_app_bytes_ = app_bytes;
    shown_tls_bytes_ = tls_bytes;
    socket_->set_upstream_buffered(app_bytes, tls_bytes);
  }
  const std::size_t bytes = app_bytes + tls_bytes;
  if (!client_paused_ && !ending_upstream_ && bytes > buffers().high_watermark_bytes) {
    client_paused_ = true;
    socket_->pause();
  } else if (client_paused_ && (ending_upstream_ || bytes <= buffers().low_watermark_bytes)) {
    client_paused_ = false;
    socket_->resume();
  }
}

// ---- From the upstream to the client

void TcpBridge::on_receive(MutableBytes bytes) {
  if (ending_upstream_) return;
  send(bytes);
  if (ending_upstream_) return;
  if (socket_->buffered_amount() > buffers().high_watermark_bytes) hold_upstream();
}

void TcpBridge::send(Bytes bytes) {
  if (type_ == MessageType::binary) return socket_->send(type_, bytes);
  if (!send_text(bytes)) {
    fail_upstream("it sent what is no UTF-8");
    end_upstream();
  }
}

bool TcpBridge::send_text(Bytes bytes) {
  const auto cut = text_.cut(bytes);
  if (!cut) return false;
  if (cut->begin.empty()) {
    if (!cut->rest.empty()) socket_->send(type_, cut->rest);
    return true;
  }
  socket_->begin_frame(type_, true, true, cut->size());
  socket_->send_payload(cut->begin);
  socket_->send_payload(cut->rest);
  return true;
}

void TcpBridge::hold_upstream() {
  upstream_held_ = true;
  transport_->read(false);
}

void TcpBridge::on_drain() {
  if (!upstream_held_) return;
  upstream_held_ = false;
  if (transport_ != nullptr && !broken_) transport_->read(true);
}

// ---- Ends

void TcpBridge::on_end() {
  upstream_ended_ = true;
  route_.context.turn.wake(*this);
  if (ending_upstream_) return;
  if (!text_.complete()) {
    fail_upstream("its text ends inside of a character");
    return end_upstream();
  }
  // The upstream's other direction may still be open: what the client has sent up to its own Close
  // frame is delivered, if the upstream still reads.
  takes_bytes();
  set_deadline();
  socket_->close_with({.code = ws::normal, .text = {}});
}

void TcpBridge::on_failure(net::FailureKind, const Error& error) {
  broken_ = true;
  route_.context.turn.wake(*this);
  if (!ending_upstream_) fail_upstream(error.message);
  if (socket_ == nullptr && waiting_bytes_ > 0) {
    log::warning("not delivered", {{"conn", conn_},
                                   {"route", route_.route.name},
                                   {"bytes", waiting_bytes_},
                                   {"why", error.message}});
  }
}

void TcpBridge::fail_upstream(std::string detail) {
  if (lease_.endpoint() != nullptr) detail = lease_.endpoint()->name() + ": " + detail;
  socket_->close_with({.code = ws::bad_gateway,
                       .text = "upstream failed",
                       .initiator = Initiator::upstream,
                       .reason = CloseReason::upstream_failed,
                       .detail = std::move(detail)});
}

void TcpBridge::on_endpoint_down(const upstreams::Endpoint& endpoint) {
  if (lease_.endpoint() != &endpoint || transport_ == nullptr || ending_upstream_) return;
  fail_upstream("on_endpoint_down: close");
  end_upstream();
}

// What it has been sent is delivered, then FIN.
void TcpBridge::end_upstream() {
  if (ending_upstream_ || transport_ == nullptr || broken_) return;
  ending_upstream_ = true;
  route_.context.turn.wake(*this);
  transport_->read(true);  // on to its end
  transport_->shutdown();
}

void TcpBridge::on_close(const CloseEvent&) {
  dial_.reset();
  socket_ = nullptr;
  if (transport_ == nullptr || broken_) return;
  takes_bytes();
  set_deadline();
  end_upstream();
}

void TcpBridge::set_deadline() {
  TimerWheel& wheel = route_.context.wheel;
  wheel.set(*this, wheel.now_ms() + route_.route.timeouts.close_ms);
}

// Since the last call.
bool TcpBridge::takes_bytes() {
  const std::uint64_t acknowledged = transport_->progress().acknowledged_bytes;
  const std::size_t waiting = transport_->buffered_bytes();
  const bool taken = acknowledged != acknowledged_bytes_ || waiting != waiting_bytes_;
  acknowledged_bytes_ = acknowledged;
  waiting_bytes_ = waiting;
  return taken;
}

// Once one side has ended. What the kernel has taken already, it delivers after an orderly close.
void TcpBridge::on_deadline() {
  if (transport_ == nullptr || broken_) return;
  const bool client_may_speak = socket_ != nullptr && transport_->buffered_bytes() == 0;
  if (takes_bytes() || client_may_speak) return set_deadline();
  if (waiting_bytes_ > 0) {
    log::warning("not delivered", {{"conn", conn_},
                                   {"route", route_.route.name},
                                   {"bytes", waiting_bytes_},
                                   {"why", "timeouts.close"}});
    transport_->reset_on_close();
  }
  broken_ = true;
  route_.context.turn.wake(*this);
}

void TcpBridge::cut() {
  if (transport_ == nullptr) return;
  transport_->reset_on_close();
  broken_ = true;
  route_.context.turn.wake(*this);
}

bool TcpBridge::is_delivered() const {
  return broken_ || (upstream_ended_ && ending_upstream_ && transport_->buffered_bytes() == 0);
}

void TcpBridge::on_turn_end() {
  if (transport_ != nullptr && !broken_) {
    if (!transport_->output().empty() && !transport_->blocked()) transport_->flush();
    if (socket_ == nullptr && !broken_ && takes_bytes()) set_deadline();
    if (is_delivered()) drop_upstream();
  } else if (transport_ != nullptr) {
    drop_upstream();
  }
  if (socket_ != nullptr) {
    look_at_upstream();
  } else if (transport_ == nullptr && keeper_ != nullptr) {
    std::exchange(keeper_, nullptr)->on_bridge_done(*this);
  }
}

void TcpBridge::drop_upstream() {
  route_.context.wheel.set(*this, TimerWheel::never);
  transport_.reset();
  lease_.release();
}

// ---- Targets and factory

Result<std::shared_ptr<const TcpTargets>> TcpTargets::create(const config::TcpTarget& target,
                                                             upstreams::Registry& registry) {
  auto targets = std::make_shared<TcpTargets>();
  if (!target.upstream.empty()) {
    targets->upstream = registry.find(target.upstream);
    if (targets->upstream == nullptr) return fail("there is no upstream " + target.upstream);
    return targets;
  }
  auto tokens = TokenTable::create(target, registry);
  if (!tokens) return tl::unexpected(tokens.error());
  targets->tokens = std::move(*tokens);
  return targets;
}

TcpBridgeFactory::TcpBridgeFactory(WorkerContext& context, const config::Route& route,
                                   std::shared_ptr<const TcpTargets> targets,
                                   std::uint64_t handshake_timeout_ms)
    : route_{.context = context,
             .route = route,
             .target = std::get<config::TcpTarget>(route.target),
             .targets = std::move(targets),
             .dial_timeout_ms = dial_timeout(handshake_timeout_ms)},
      outages_(std::make_unique<OutageWatch>(context.loop)) {
  if (route_.targets->upstream != nullptr) outages_->watch(route_.targets->upstream);
  if (route_.targets->tokens == nullptr) return;
  for (auto& upstream : route_.targets->tokens->mapped()) outages_->watch(std::move(upstream));
}

TcpBridgeFactory::~TcpBridgeFactory() = default;

std::unique_ptr<Bridge> TcpBridgeFactory::create(ClientSocket& socket) {
  return std::make_unique<TcpBridge>(route_, *outages_, socket);
}

}  // namespace sluice::bridges
