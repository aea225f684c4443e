// UpstreamSocket: a WebSocket to an upstream, from its 101 to the end of its TCP connection.
//
// What Connection is for a client, but on the client's end: a Session over a transport that was
// opened by somebody else. Events come from the loop or at the end of a turn, never from inside a
// call; no event destroys the socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/timer_wheel.h"
#include "base/turn.h"
#include "client_socket.h"
#include "metrics/counters.h"
#include "session.h"
#include "upstreams/http_exchange.h"
#include "worker_context.h"

namespace sluice::bridges {

// What the sockets of one route to its upstream share. Outlives them.
struct UpstreamSocketSettings {
  // The client's limits and its idle time are not the upstream's.
  UpstreamSocketSettings(const config::Route& route, ws::CompressionPool& pool);

  SessionSettings session;
  // A session counts what it does; the client's side of the same traffic is what is shown.
  metrics::RouteCounters counters;
};

class UpstreamSocket final : private net::Transport::Owner,
                             private Session::Owner,
                             private Turn::Entry {
 public:
  class Owner {
   public:
    // Returns whether somebody takes it.
    virtual bool on_upstream_piece(const MessagePiece& piece) = 0;
    // Bytes have left, or something that was called has been done: the amounts may have changed.
    virtual void on_upstream_progress() = 0;
    // Nothing is received any more. Once.
    virtual void on_upstream_end(const SessionEnd& end) = 0;
    // The connection is closed. Once, and last.
    virtual void on_upstream_gone() = 0;

   protected:
    ~Owner() = default;
  };

  // What came behind the 101 is received at the end of the turn.
  UpstreamSocket(WorkerContext& context, UpstreamSocketSettings& settings,
                 upstreams::Upgraded upgraded, ws::Compression compression, Owner& owner);
  ~UpstreamSocket() override;

  // ---- While it is open; ignored otherwise.
  // Returns whether the upstream gets it.
  bool pass_on(const MessagePiece& piece);
  bool in_frame() const { return session_ != nullptr && session_->in_frame(); }
  void pause();
  void resume();

  // ---- Its end. Each is final; a later one is ignored, but for drop().
  // Starts the closing handshake, after what was sent. Not in the midst of a frame.
  void close_with(const Ending& ending);
  // Ends the stream after what was sent, without a Close frame: as a client that has vanished.
  void hang_up();
  // Ends it now.
  void drop();
  bool gone() const { return phase_ == Phase::gone; }

  // ---- What waits for the upstream.
  std::size_t buffered_amount() const;
  std::size_t buffered_tls() const;
  // The kernel took not all of it: on_upstream_progress() will come.
  bool blocked() const { return transport_ != nullptr && transport_->blocked(); }

  // Has on_upstream_progress() called at the end of the next round of this turn.
  void wake();
  const upstreams::Endpoint* endpoint() const { return endpoint_; }

 private:
  enum class Phase : std::uint8_t {
    open,       // until the session has ended
    lingering,  // what waits is flushed, and the upstream's end of stream awaited
    gone,       // to be closed at the end of the turn, or closed
  };

  // net::Transport::Owner
  void on_secure() override {}
  void on_receive(MutableBytes bytes) override;
  void on_end() override;
  void on_sent() override;
  void on_failure(net::FailureKind kind, const Error& error) override;

  // Session::Owner
  void on_session_message(MessageType, Bytes) override {}  // it streams
  bool on_session_piece(const MessagePiece& piece) override {
    return owner_.on_upstream_piece(piece);
  }
  void on_session_drain() override {}  // on_upstream_progress() tells more
  void on_session_wake() override { wake(); }
  void on_session_end() override { wake(); }

  void on_turn_end() override;
  void on_deadline() override;

  void flush();
  void receive_first();
  void settle();
  void linger();
  void set_linger_deadline();
  void leave();
  void close();

  WorkerContext& context_;
  UpstreamSocketSettings& settings_;
  const SessionContext session_context_;
  Owner& owner_;
  const upstreams::Endpoint* endpoint_;
  upstreams::Lease lease_;
  std::vector<std::uint8_t> first_;  // what came behind the 101
  Phase phase_ = Phase::open;
  bool peer_ended_ = false;
  bool hanging_up_ = false;
  bool told_end_ = false;
  bool told_gone_ = false;
  std::unique_ptr<net::Transport> transport_;  // null once it is closed, as the session
  std::unique_ptr<Session> session_;
};

}  // namespace sluice::bridges
