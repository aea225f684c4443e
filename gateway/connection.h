// Connection: one client, from accept to close.
//
// It reads requests until one of them is a WebSocket's opening handshake; then a Session and a
// Bridge take over, and everything that HTTP needed is gone. Whatever ends it calls finish(), which
// only notes the end: the worker destroys the connection at the end of the turn.
//
//   securing → reading ⇄ responding, relaying
//                 ↓
//              deciding → open → lingering → finished
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "access_log.h"
#include "base/timer_wheel.h"
#include "bridge.h"
#include "client_socket.h"
#include "http/response.h"
#include "http/upgrade.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "net/tls_context.h"
#include "net/transport.h"
#include "relay_session.h"
#include "route_table.h"
#include "session.h"

namespace sluice {

class Worker;
struct ClientPlaces;
struct Exchange;

// How a connection came in: whether its client's connections are counted, and are too many.
enum class Admission : std::uint8_t { uncounted, counted, over_limit };

// What an interface costs an idle connection is a pointer: RelaySession::Owner brings the
// transport's events along, Session::Owner the deadline.
class Connection final : private RelaySession::Owner, private Session::Owner, private ClientSocket {
 public:
  // Takes the fd. `tls` is null for a plain listener; it and the worker outlive the connection.
  Connection(Worker& worker, std::uint32_t serial, std::size_t place, int fd,
             const net::Endpoint& peer, const net::TlsContext* tls, Admission admission);
  // Over a plain transport that is there already, as tests have it.
  Connection(Worker& worker, std::uint32_t serial, std::size_t place,
             std::unique_ptr<net::Transport> transport, const net::Endpoint& peer);
  ~Connection() override;

  // Called by the worker at the end of each turn in which the connection asked for it.
  void turn_end();
  // The process shuts down: end at the next message boundary, or after the present response.
  void drain();
  // The time for that is over.
  void cut();
  // Bytes that wait here, in either direction.
  std::uint64_t held_bytes() const;
  // Drops it, since memory is short.
  void evict();

  // Whether it counts for what is limited: not if a bridge that outlives its socket does.
  bool counted() const { return counted_; }
  // The worker is to call turn_end(): until it has, it must not destroy the connection.
  bool waking() const { return waking_; }

  // Where the worker keeps it.
  std::size_t place() const { return place_; }
  void set_place(std::size_t place) { place_ = static_cast<std::uint32_t>(place); }

 private:
  enum class Phase : std::uint8_t {
    securing,    // TLS handshake
    reading,     // a request's head
    deciding,    // the bridge has the opening handshake before it
    responding,  // a body is being sent
    relaying,    // a relay answers the request
    open,        // a WebSocket
    lingering,   // our direction is closed; waiting for the peer to close its own
    finished,    // to be destroyed
  };

  // net::Transport::Owner
  void on_secure() override;
  void on_receive(MutableBytes bytes) override;
  void on_end() override;
  void on_sent() override;
  void on_failure(net::FailureKind kind, const Error& error) override;

  // Session::Owner
  void on_session_message(MessageType type, Bytes payload) override;
  bool on_session_piece(const MessagePiece& piece) override;
  void on_session_drain() override;
  void on_session_wake() override;
  void on_session_end() override;
  void on_session_waiting() override;

  // RelaySession::Owner
  void on_relay_wake() override { wake(); }
  void on_relay_response(int status, std::string_view why) override;
  void on_relay_upstream(std::string_view upstream, std::string_view endpoint) override;
  std::string_view http_date() override;

  // WebSocket
  ReadyState ready_state() const override;
  std::size_t buffered_amount() const override;
  std::string_view protocol() const override;
  bool accept(std::string_view protocol) override;
  void reject(int status, std::string_view reason) override;
  void send(MessageType type, Bytes payload) override;
  bool close(std::uint16_t code, std::string_view reason) override;
  void fail(std::string_view what) override;
  void pause() override;
  void resume() override;

  // ClientSocket
  ClientRequest handshake() const override;
  net::Endpoint local_endpoint() const override { return transport_->local_endpoint(); }
  void accept_as(std::string_view protocol, std::vector<http::Header> headers,
                 std::string_view extensions) override;
  void name_upstream(std::string_view upstream, std::string_view endpoint) override;
  void reject_with(http::Response response, metrics::HandshakeResult result,
                   std::string_view why) override;
  void answer_plainly(std::unique_ptr<Relay> relay) override;
  void begin_frame(MessageType type, bool message_start, bool message_end,
                   std::uint64_t payload_bytes, bool compressed) override;
  void send_payload(Bytes piece) override;
  void pass_on(const MessagePiece& piece) override;
  bool send_prepared(ws::PreparedMessage& message) override;
  void close_with(const Ending& ending) override;
  void abort(const Ending& ending) override;
  void set_upstream_buffered(std::size_t app_bytes, std::size_t tls_bytes) override;
  std::uint64_t id() const override;

  // TimerWheel::Entry
  void on_deadline() override;
  void on_request_timeout();

  // HTTP
  void begin();
  void await_request();
  void read_requests(MutableBytes bytes);
  void hold(Bytes bytes);
  void read_held();
  void end_of_requests();
  void handle_request();
  void handle_plain(const RouteTable::Match& match);
  void handle_upgrade(const RouteTable::Match& match);
  bool admit(ServedRoute& route, const http::Upgrade& upgrade);
  bool take_place(ServedRoute& route);
  void open_bridge(const RouteTable::Match& match, http::Upgrade upgrade);
  void keep_parameters(const RouteTable::Match& match);
  void refuse(metrics::HandshakeResult result, const http::Response& response,
              std::string_view why);
  void refuse(metrics::HandshakeResult result, int status, std::string_view why);
  void refuse_for_now(metrics::HandshakeResult result, std::string_view why);
  void refuse_over_limit(metrics::Limit limit, std::string_view key);
  void respond(const http::Response& response);
  void pump_body();
  void end_response();
  void open_session(std::vector<http::Header> headers = {}, std::string_view extensions = {});
  void agree_on_protocol(std::string_view protocol);
  ws::Compression agree_on_compression(std::string& answer);
  std::string_view loggable_protocol() const;
  void receive_early();
  metrics::ConnectionSlot& slot();
  void drop_empty_slot();

  void give_to_relay(std::unique_ptr<Relay> relay);
  void follow_relay();
  void end_relay();
  void watch_relayed_client();
  bool answers() const;
  bool reads_slowly();

  void flush();
  void wake();
  void await_next_request();
  void linger();
  void set_linger_deadline();
  void finish();
  void conclude();
  ClientPlaces places() const;
  void set_deadline(std::uint64_t delay_ms);

  metrics::RouteCounters& counters() const;
  void count_tls(metrics::TlsResult result) const;
  void count_handshake(metrics::HandshakeResult result) const;
  bool is_plain_request() const;
  access_log::Subject subject() const;

  Worker& worker_;
  const std::uint32_t serial_;  // of its worker's connections
  const net::Endpoint peer_;
  std::uint32_t place_;
  Phase phase_ = Phase::reading;
  Admission admission_;
  // Bits: idle connections are many.
  bool counted_open_ : 1 = false;  // among its client's WebSockets
  bool counted_ : 1 = true;        // wherever connections are; false: its bridge is
  bool waking_ : 1 = false;        // turn_end() is due
  bool draining_ : 1 = false;
  bool peer_ended_ : 1 = false;
  std::uint64_t opened_ms_ = 0;
  ServedRoute* route_ = nullptr;
  std::unique_ptr<std::string> protocol_;  // the agreed subprotocol; null: none
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<Exchange> exchange_;
  metrics::ConnectionSlot* slot_ = nullptr;  // null: nothing waits
  std::unique_ptr<Session> session_;
  std::unique_ptr<Bridge> bridge_;  // last: it refers to the rest
};

}  // namespace sluice
