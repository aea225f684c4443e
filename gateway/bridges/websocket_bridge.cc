#include "bridges/websocket_bridge.h"

#include <string>
#include <utility>
#include <vector>

#include "bridges/http_relay.h"
#include "bridges/outage_watch.h"
#include "bridges/upstream_failure.h"
#include "bridges/upstream_request.h"
#include "bridges/upstream_socket.h"
#include "bridges/websocket_upgrade.h"
#include "http/response.h"
#include "ws/close_code.h"

namespace sluice::bridges {
namespace {

using Mode = config::Compression::Mode;
using metrics::CloseReason;
using metrics::HandshakeResult;
using metrics::Initiator;
using upstreams::HttpExchange;
using upstreams::HttpFailure;

std::string name_of(const upstreams::Endpoint* endpoint) {
  return endpoint == nullptr ? "the upstream" : endpoint->name();
}

// It is we who could not go on, and not the upstream.
Ending no_memory(const SessionEnd& end) {
  return {.code = ws::try_again_later,
          .text = end.detail,
          .initiator = Initiator::gateway,
          .reason = CloseReason::overload,
          .detail = end.detail};
}

}  // namespace

struct WebSocketRoute {
  explicit WebSocketRoute(const HttpRoute& http_route)
      : route(http_route),
        upstream_settings(http_route.route, http_route.context.compression),
        outages(http_route.context.loop) {
    outages.watch(route.upstream);
  }

  config::Compression::Mode upstream_compression() const {
    return std::get<config::HttpTarget>(route.route.target).compression;
  }

  HttpRoute route;
  UpstreamSocketSettings upstream_settings;
  OutageWatch outages;
};

namespace {

class WebSocketBridge final : public Bridge,
                              private HttpExchange::Owner,
                              private UpstreamSocket::Owner,
                              private OutageWatch::Listener {
 public:
  WebSocketBridge(WebSocketRoute& shared, ClientSocket& socket)
      : shared_(shared), socket_(&socket) {
    shared_.outages.add(*this);
  }
  ~WebSocketBridge() override { shared_.outages.remove(*this); }

  // Bridge
  void on_open(const UpgradeRequest& request) override;
  bool streams() const override { return true; }
  void on_message(MessageType, Bytes) override {}  // it streams
  bool on_piece(const MessagePiece& piece) override;
  void on_drain() override { resume_upstream(); }
  void on_close(const CloseEvent& event) override;
  bool outlives_socket() const override { return upstream_ != nullptr && !upstream_->gone(); }
  std::uint64_t held_bytes() const override {
    return upstream_ == nullptr ? 0 : upstream_->buffered_amount();
  }
  void set_keeper(Keeper& keeper) override { keeper_ = &keeper; }
  void cut() override;

 private:
  // What is needed until the upstream has answered.
  struct Handshake {
    std::string key;
    std::string offered;
    std::string extensions;  // offered to the upstream
    bool dedicated = false;  // with context takeover, if they are ours
    std::unique_ptr<HttpExchange> exchange;
  };

  // HttpExchange::Owner
  void on_informational(const http::ResponseHead&) override {}
  void on_response(const http::ResponseHead& head) override;
  void on_response_body(Bytes) override {}
  void on_response_end(const std::vector<http::Header>&) override {}
  void on_request_drain() override {}
  void on_exchange_failure(const HttpFailure& failure) override;

  std::string extension_offer(const ClientRequest& client);
  Result<ws::Compression> agree_on_compression(const std::string& answer) const;
  void switch_protocols(const http::ResponseHead& head);
  void refuse_switch(const std::string& why);
  void refuse(const http::Response& response, HandshakeResult result, std::string_view why);
  void end_handshake();

  // UpstreamSocket::Owner
  bool on_upstream_piece(const MessagePiece& piece) override;
  void on_upstream_progress() override;
  void on_upstream_end(const SessionEnd& end) override;
  void on_upstream_gone() override;

  // OutageWatch::Listener
  void on_endpoint_down(const upstreams::Endpoint& endpoint) override;

  void watch_upstream_buffer();
  void show_upstream_buffer(std::size_t amount);
  void pause_upstream();
  void resume_upstream();
  void resume_client();
  void close_client(const Ending& ending);
  Ending lost(std::string text, const std::string& detail) const;

  const config::Buffers& buffers() const { return shared_.route.route.buffers; }

  WebSocketRoute& shared_;
  ClientSocket* socket_;  // null after on_close
  Keeper* keeper_ = nullptr;
  std::unique_ptr<Handshake> handshake_;
  std::unique_ptr<UpstreamSocket> upstream_;
  bool client_in_frame_ = false;  // a frame to the client was begun and is not finished
  bool client_paused_ = false;    // it is not read, since the upstream does not read
  bool upstream_paused_ = false;  // the other way round
  bool upstream_ends_ = false;    // nothing that the client still sends is for it
  std::size_t shown_bytes_ = 0;   // waiting for the upstream, as /metrics has it
};

// ---- The opening handshake

void WebSocketBridge::on_open(const UpgradeRequest&) {
  const HttpRoute& route = shared_.route;
  const ClientRequest client = socket_->handshake();
  handshake_ = std::make_unique<Handshake>();
  handshake_->key = fresh_key();
  handshake_->offered = protocol_offer(client.request);
  upstreams::HttpRequest request = upstream_request(route, client);
  handshake_->extensions = extension_offer(client);
  add_upgrade_fields(handshake_->key, handshake_->offered, handshake_->extensions, request.headers);
  request.upgrade = true;
  request.body = {};  // a Content-Length of 0 has been seen
  // Connecting included.
  request.handshake_timeout_ms = route.connect_timeout_ms;
  handshake_->exchange =
      std::make_unique<HttpExchange>(route.context, route.pool, route.upstream, std::move(request),
                                     static_cast<HttpExchange::Owner&>(*this));
}

std::string WebSocketBridge::extension_offer(const ClientRequest& client) {
  const SessionSettings& settings = shared_.upstream_settings.session;
  if (const auto own = shared_.upstream_compression(); own != Mode::off) {
    // Without memory for a context of its own the socket does without.
    ws::CompressionPool& pool = *settings.protocol.compression.pool;
    handshake_->dedicated =
        own == Mode::dedicated && pool.has_room_to_keep(pool.stream_bytes_max());
    return ws::deflate_offer(deflate_policy(settings.compression, handshake_->dedicated));
  }
  if (settings.compression.mode != Mode::passthrough) return {};
  const auto offers = client.request.header("Sec-WebSocket-Extensions");
  const auto extensions = ws::parse_extensions(offers.value_or(""));
  return extensions ? ws::passable_offers(*extensions) : std::string();
}

Result<ws::Compression> WebSocketBridge::agree_on_compression(const std::string& answer) const {
  if (answer.empty()) return ws::Compression{};
  const SessionSettings& settings = shared_.upstream_settings.session;
  if (shared_.upstream_compression() == Mode::off) {
    if (!ws::answers_offers(answer, handshake_->extensions)) {
      return fail("its extensions do not fit the offer");
    }
    return ws::Compression{.use = ws::Compression::Use::pass};
  }
  const auto agreed =
      ws::check_deflate_answer(answer, deflate_policy(settings.compression, handshake_->dedicated));
  if (!agreed) return tl::unexpected(agreed.error());
  auto made = ws::make_compression(ws::Role::client, *agreed, settings.protocol.compression);
  if (!made) return fail("memory.compression is used up");
  return *std::move(made);
}

void WebSocketBridge::on_response(const http::ResponseHead& head) {
  if (head.status == 101) return switch_protocols(head);
  if (head.status >= 300 && head.status <= 399) {
    // Nobody follows a WebSocket's redirect: browsers do not, and we would take the client's
    // credentials to where the upstream wants them.
    return refuse(
        http::refusal(502, "the upstream redirects"), HandshakeResult::upstream_refused,
        name_of(handshake_->exchange->endpoint()) + ": status " + std::to_string(head.status));
  }
  socket_->answer_plainly(relay_response(std::move(handshake_->exchange), head));
}

void WebSocketBridge::switch_protocols(const http::ResponseHead& head) {
  HttpExchange& exchange = *handshake_->exchange;
  auto switched = verify_switch(head, handshake_->key, handshake_->offered, handshake_->extensions);
  if (!switched) return refuse_switch(switched.error().message);
  auto compression = agree_on_compression(switched->extensions);
  if (!compression) return refuse_switch(compression.error().message);
  const bool passes = compression->use == ws::Compression::Use::pass;
  upstream_ = std::make_unique<UpstreamSocket>(shared_.route.context, shared_.upstream_settings,
                                               exchange.take_upgraded(), *std::move(compression),
                                               static_cast<UpstreamSocket::Owner&>(*this));
  end_handshake();
  socket_->name_upstream(shared_.route.upstream->name(), name_of(upstream_->endpoint()));
  socket_->accept_as(switched->protocol, std::move(switched->headers),
                     passes ? switched->extensions : std::string());
}

void WebSocketBridge::refuse_switch(const std::string& why) {
  shared_.route.upstream->counters().handshake_invalid.add();
  refuse(http::refusal(502, "the upstream's handshake is not valid"),
         HandshakeResult::upstream_invalid, name_of(handshake_->exchange->endpoint()) + ": " + why);
}

void WebSocketBridge::on_exchange_failure(const HttpFailure& failure) {
  refuse(refusal_after(failure), handshake_result(failure.http_status()), failure.detail);
}

void WebSocketBridge::refuse(const http::Response& response, HandshakeResult result,
                             std::string_view why) {
  if (handshake_ != nullptr && handshake_->exchange != nullptr) {
    const upstreams::Endpoint* const endpoint = handshake_->exchange->endpoint();
    socket_->name_upstream(shared_.route.upstream->name(),
                           endpoint == nullptr ? std::string_view() : endpoint->name());
  }
  socket_->reject_with(response, result, why);
  end_handshake();
}

// The exchange may be in the midst of an event.
void WebSocketBridge::end_handshake() {
  if (handshake_ == nullptr) return;
  if (handshake_->exchange != nullptr) handshake_->exchange->cancel();
  shared_.route.context.turn.retire(std::move(handshake_->exchange));
  handshake_.reset();
}

// ---- Client to upstream

bool WebSocketBridge::on_piece(const MessagePiece& piece) {
  if (upstream_ == nullptr) return false;
  const bool taken = upstream_->pass_on(piece);
  if (upstream_->blocked()) watch_upstream_buffer();
  return taken;
}

void WebSocketBridge::on_upstream_progress() {
  if (socket_ == nullptr) return;
  watch_upstream_buffer();
}

void WebSocketBridge::watch_upstream_buffer() {
  const std::size_t amount = upstream_->buffered_amount();
  show_upstream_buffer(amount);
  if (!client_paused_ && !upstream_ends_ && upstream_->blocked() &&
      amount > buffers().high_watermark_bytes) {
    client_paused_ = true;
    socket_->pause();
  } else if (amount <= buffers().low_watermark_bytes) {
    resume_client();
  }
}

void WebSocketBridge::resume_client() {
  if (!client_paused_) return;
  client_paused_ = false;
  socket_->resume();
}

// Only what waits: what is not blocked leaves with the end of the turn.
void WebSocketBridge::show_upstream_buffer(std::size_t amount) {
  const std::size_t waiting = upstream_->blocked() ? amount : 0;
  if (waiting == shown_bytes_) return;
  shown_bytes_ = waiting;
  const std::size_t tls = waiting == 0 ? 0 : upstream_->buffered_tls();
  socket_->set_upstream_buffered(waiting - tls, tls);
}

// ---- Upstream to client

bool WebSocketBridge::on_upstream_piece(const MessagePiece& piece) {
  if (socket_ == nullptr) return false;
  if (piece.frame_start) client_in_frame_ = socket_->ready_state() == ReadyState::open;
  // What the client does not get any more waits for nobody.
  const bool passes_on = client_in_frame_ || socket_->ready_state() == ReadyState::open;
  socket_->pass_on(piece);
  if (piece.frame_end) client_in_frame_ = false;
  if (passes_on && socket_->buffered_amount() > buffers().high_watermark_bytes) pause_upstream();
  return passes_on;
}

void WebSocketBridge::pause_upstream() {
  if (upstream_paused_) return;
  upstream_paused_ = true;
  upstream_->pause();
}

void WebSocketBridge::resume_upstream() {
  if (!upstream_paused_) return;
  upstream_paused_ = false;
  upstream_->resume();
}

// ---- Ends

// The upstream has closed, or is lost.
void WebSocketBridge::on_upstream_end(const SessionEnd& end) {
  upstream_ends_ = true;
  if (socket_ == nullptr) return;
  resume_client();  // its Close frame stands behind what the upstream did not take
  const bool closed = end.initiator == Initiator::client && end.code != ws::abnormal;
  if (end.was_clean || closed) {
    close_client({.code = end.code, .text = end.text, .reason = end.reason});
  } else if (end.reason == CloseReason::overload) {
    close_client(no_memory(end));
  } else if (end.code != ws::abnormal) {
    close_client(lost("upstream broke the protocol", end.detail));
  } else {
    close_client(lost("upstream lost", end.detail));
  }
}

Ending WebSocketBridge::lost(std::string text, const std::string& detail) const {
  return {.code = ws::bad_gateway,
          .text = std::move(text),
          .reason = CloseReason::upstream_failed,
          .detail = name_of(upstream_->endpoint()) + ": " + detail};
}

// A frame that will never be finished leaves no room for a Close frame.
void WebSocketBridge::close_client(const Ending& ending) {
  if (client_in_frame_) {
    client_in_frame_ = false;
    socket_->abort(ending);
  } else {
    socket_->close_with(ending);
  }
}

void WebSocketBridge::on_upstream_gone() {
  if (socket_ != nullptr) {
    show_upstream_buffer(0);
  } else if (keeper_ != nullptr) {
    keeper_->on_bridge_done(*this);
  }
}

// The upstream gets everything that the client had sent, then the same end.
void WebSocketBridge::on_close(const CloseEvent& event) {
  socket_ = nullptr;
  end_handshake();
  if (upstream_ == nullptr) return;
  resume_upstream();
  const bool by_gateway = event.initiator == Initiator::gateway;
  if (upstream_->in_frame() || (event.code == ws::abnormal && !by_gateway)) {
    upstream_->hang_up();
  } else if (by_gateway) {
    upstream_->close_with({.code = ws::going_away, .text = std::string(event.reason)});
  } else {
    upstream_->close_with({.code = event.code, .text = std::string(event.reason)});
  }
}

void WebSocketBridge::cut() {
  if (upstream_ != nullptr) upstream_->drop();
}

void WebSocketBridge::on_endpoint_down(const upstreams::Endpoint& endpoint) {
  if (upstream_ == nullptr || upstream_->endpoint() != &endpoint) return;
  upstream_ends_ = true;
  resume_upstream();
  if (socket_ != nullptr) {
    resume_client();
    close_client(lost("upstream down", "the endpoint is down"));
  }
  if (upstream_->in_frame()) {
    upstream_->hang_up();
  } else {
    upstream_->close_with({.code = ws::going_away, .text = "endpoint down"});
  }
}

}  // namespace

// ---- The factory

WebSocketBridgeFactory::WebSocketBridgeFactory(const HttpRoute& route)
    : shared_(std::make_unique<WebSocketRoute>(route)) {}

WebSocketBridgeFactory::~WebSocketBridgeFactory() = default;

std::unique_ptr<Bridge> WebSocketBridgeFactory::create(ClientSocket& socket) {
  return std::make_unique<WebSocketBridge>(*shared_, socket);
}

}  // namespace sluice::bridges
