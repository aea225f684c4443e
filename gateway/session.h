// Session: a ws::Protocol over a Transport, for either end of a WebSocket.
//
// It turns what arrives into messages for its owner, keeps the peer alive with pings, runs the
// closing handshake, and stands between a sender and a peer that does not read: watermarks, limits
// and the route's slow_consumer policy are kept here. All of it happens on the worker's thread.
//
// The owner hands in what the transport says (receive(), on_sent(), ...), and calls turn_end() at
// the end of each turn in which on_wake() was called. Only receive() and turn_end() deliver
// messages; send(), close(), pause() and resume() never do.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/timer_wheel.h"
#include "client_socket.h"
#include "config/config.h"
#include "metrics/counters.h"
#include "net/transport.h"
#include "websocket.h"
#include "ws/message_assembler.h"
#include "ws/permessage_deflate.h"
#include "ws/protocol.h"

namespace sluice {

// What a route says about its sessions. One a route; outlives them.
struct SessionSettings {
  explicit SessionSettings(const config::Route& route);

  ws::ProtocolLimits protocol;
  bool streams;  // messages are passed on in pieces, as they come
  config::SlowConsumer slow_consumer;
  config::Buffers buffers;
  config::Limits limits;
  config::Timeouts timeouts;
  config::Keepalive keepalive;
  config::Compression compression;
};

// What the sessions of a route on one worker have in common. Outlives them.
struct SessionContext {
  const SessionSettings& settings;
  TimerWheel& wheel;
  metrics::RouteCounters& counters;
};

// The terms of permessage-deflate on which such a route agrees; `dedicated`: with context takeover.
ws::DeflatePolicy deflate_policy(const config::Compression& compression, bool dedicated);

// How a session ended, in all the words that the log, the metrics and the bridge need.
struct SessionEnd {
  metrics::Initiator initiator = metrics::Initiator::network;
  metrics::CloseReason reason = metrics::CloseReason::reset;
  std::uint16_t code = 1006;  // as a browser's CloseEvent would have it; of a Close frame, if any
  std::string text{};         // the close reason on the wire
  bool was_clean = false;     // both Close frames were exchanged
  std::string detail{};       // for the log: which rule, which limit, which error
};

class Session final {
 public:
  // Its deadline is the session's as long as that lasts: when it is over, it calls
  // Session::on_deadline(). (One object with one vtable, since idle connections are many.)
  class Owner : public TimerWheel::Entry {
   public:
    // A whole message; valid during the call. Only while OPEN.
    virtual void on_session_message(MessageType type, Bytes payload) = 0;
    // In its place if the settings say that messages are streamed. Also comes while CLOSING if
    // close_with() began it.
    // Returns whether somebody takes it.
    virtual bool on_session_piece(const MessagePiece&) { return false; }
    // buffered_amount() is under the low watermark again. Only while OPEN, or in the midst of a
    // frame that is to be finished.
    virtual void on_session_drain() = 0;
    // The session wants turn_end() to be called at the end of this turn.
    virtual void on_session_wake() = 0;
    // The session is over: end() tells how. Once. What is queued may still be flushed.
    virtual void on_session_end() = 0;
    // What waiting() tells has changed.
    virtual void on_session_waiting() {}
  };

  // Why the peer is not read. Resuming one reason does not undo another.
  enum PauseReason : std::uint8_t {
    asked = 1,        // the bridge called pause()
    output_full = 2,  // the peer does not read what it is sent
  };

  // What waits here and in the transport, and for whom.
  struct Waiting {
    std::uint64_t app_bytes = 0;      // to the peer, as plain bytes
    std::uint64_t tls_bytes = 0;      // to the peer, encrypted
    std::uint64_t inbound_bytes = 0;  // received and not yet delivered
    bool paused = false;              // bufferedAmount rose over high and is not yet under low
    bool read_paused = false;         // the peer is not read

    bool operator==(const Waiting&) const = default;
  };

  // What the access record tells of a session.
  struct Totals {
    std::uint64_t messages[metrics::direction_count] = {};
    std::uint64_t payload_bytes[metrics::direction_count] = {};
    std::uint64_t buffered_bytes_max = 0;
  };

  // Everything passed by reference outlives the session.
  Session(ws::Role role, const SessionContext& context, net::Transport& transport, Owner& owner,
          ws::Compression compression = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // ---- What the transport says.
  void receive(MutableBytes bytes);
  void on_sent();
  void on_peer_end();  // FIN
  void on_failure(net::FailureKind kind, const Error& error);
  // To be called after the transport was flushed.
  void on_flushed() { update_buffered(); }

  // Delivers what a resume() or a drained buffer has made possible.
  void turn_end();
  // The owner's deadline is over.
  void on_deadline();

  // ---- What the bridge does (websocket.h).
  ReadyState ready_state() const { return state_; }
  std::size_t buffered_amount() const { return transport_.buffered_bytes() + backlog_bytes(); }
  void send(MessageType type, Bytes payload);
  // The same for a message that others receive too. False if the peer will not get it: unless OPEN,
  // and if a limit or slow_consumer is against it.
  bool send_prepared(ws::PreparedMessage& message);
  // A frame in pieces (client_socket.h). Ignored unless OPEN; a frame that was begun is finished
  // while CLOSING too, and what else is to be sent waits for its end.
  void begin_frame(MessageType type, bool message_start, bool message_end,
                   std::uint64_t payload_bytes, bool compressed = false);
  void send_payload(Bytes piece);
  // What another session has received, with both of these.
  void pass_on(const MessagePiece& piece);
  bool in_frame() const { return protocol_.in_frame(); }
  bool close_sent() const { return protocol_.close_sent(); }
  bool close(std::uint16_t code, std::string_view reason, metrics::Initiator initiator);
  // Closes with any code. What the peer sends before it answers is still delivered in pieces.
  void close_with(const Ending& ending);
  void pause(PauseReason reason);
  void resume(PauseReason reason);
  // The upstream has taken some of what the peer sent: no idleness.
  void on_upstream_progress() { set_idle_deadline(); }

  // ---- What the gateway does.
  // Starts the closing handshake by a rule of ours, with a code of ours. The rule's name is the
  // close reason on the wire, and stands in the log.
  void close_by_rule(std::uint16_t code, metrics::CloseReason reason, std::string rule,
                     metrics::Initiator initiator = metrics::Initiator::gateway);
  // Closes with 1001, when the messages that are being received and sent in pieces are whole.
  void drain();
  // Ends the session without a closing handshake.
  void abort(metrics::Initiator initiator, metrics::CloseReason reason, std::string detail);

  // Bytes that are held here beside the transport's: received and not yet delivered, or not yet
  // sent.
  std::uint64_t held_bytes() const;
  // Null while it lasts.
  const SessionEnd* end() const { return ended() ? extra_->end.get() : nullptr; }
  Totals totals() const;
  Waiting waiting() const;

 private:
  using Tick = TimerWheel::Tick;

  struct HeldMessage {
    MessageType type;
    std::vector<std::uint8_t> payload;
  };
  // What is needed only since one of the two sides could not keep up. Most sessions never have it.
  struct Congestion {
    std::vector<std::uint8_t> stash;  // received while paused, not yet given to the protocol
    std::size_t stash_begin = 0;
    std::list<HeldMessage> backlog;  // drop_oldest: not yet begun to be sent
    std::size_t backlog_bytes = 0;
    std::optional<std::string> pending_pong;  // the latest ping's payload, while we are blocked
    std::uint64_t buffered_bytes_max = 0;
    Tick watermark_due = Tick::never;
    std::uint64_t over_high_since_ms = 0;
    std::uint64_t read_paused_since_ms = 0;

    std::size_t stash_bytes() const { return stash.size() - stash_begin; }
  };
  // CLOSING: why, and until when the peer may answer. Then `why` becomes the end.
  struct Closing {
    SessionEnd why;
    Tick due = Tick::never;
    bool delivers = false;     // what the peer still sends
    bool peer_closed = false;  // its Close frame has come; ours is held up
    struct CloseFrame {
      std::uint16_t code;
      std::string text;
    };
    std::optional<CloseFrame> held_up = {};  // by a frame that is not finished
  };
  // What a relay of pieces has to remember of the present message in each direction.
  struct Stream {
    std::uint64_t received_bytes = 0;
    std::uint64_t sent_bytes = 0;
    MessageType sent_type = MessageType::binary;
    bool sent_fin = false;  // the frame that is being sent ends its message
  };
  // The present second, for limits per second.
  struct RateWindow {
    std::uint64_t start_ms = 0;
    std::uint64_t bytes = 0;
    std::uint32_t messages = 0;
    std::uint32_t control_frames = 0;
  };

  // What most sessions do without as long as they last.
  struct Extra {
    std::unique_ptr<ws::MessageAssembler> assembler;  // of a message that comes in pieces
    Stream stream;
    RateWindow rate;
    std::unique_ptr<Congestion> congestion;
    std::unique_ptr<Closing> closing;
    std::unique_ptr<SessionEnd> end;
  };

  Extra& extra();
  bool ended() const { return state_ == ReadyState::closed; }
  Congestion& congestion();
  Congestion* congested() const { return extra_ == nullptr ? nullptr : extra_->congestion.get(); }
  Closing* closing() const { return extra_ == nullptr ? nullptr : extra_->closing.get(); }
  bool has_stash() const { return congested() != nullptr && !congested()->stash.empty(); }
  // Whether there is something to go on with behind a pause, without reading.
  bool has_undelivered() const { return has_stash() || protocol_.pending(); }
  bool has_backlog() const { return congested() != nullptr && !congested()->backlog.empty(); }
  std::size_t backlog_bytes() const {
    return congested() == nullptr ? 0 : congested()->backlog_bytes;
  }
  Tick close_due() const { return closing() == nullptr ? Tick::never : closing()->due; }
  Tick watermark_due() const {
    return congested() == nullptr ? Tick::never : congested()->watermark_due;
  }

  Tick next_deadline() const;
  void arm(Tick due);
  void set_idle_deadline();

  void consume(MutableBytes bytes);
  void consume_stash();
  void handle_events();
  void handle(const ws::Event& event);
  void on_data(const ws::Event& event);
  void on_message(const ws::Event& event);
  void on_piece(const ws::Event& event);
  void count_received(MessageType type, std::uint64_t bytes);
  std::optional<Bytes> assemble(const ws::Event& event);
  void deliver(MessageType type, Bytes message);
  void on_ping(const ws::Event& event);
  void on_pong(const ws::Event& event);
  bool answers_ping(Bytes payload) const;
  void on_close(const ws::Event& event);
  void on_violation(const ws::Event& event);
  void count_violation(std::uint16_t close_code);
  void watch_unfinished_message();

  RateWindow& rate_window();
  bool too_many_messages(const ws::Event& data);
  bool too_many_control_frames();
  void close_rate_limited(metrics::Limit limit, const char* what);

  bool held_back(MessageType type, Bytes payload);
  void hold(std::size_t frame_bytes, MessageType type, Bytes payload);
  void put_oldest_held();
  void put_held_while_taken();
  void put_all_held();
  void put(MessageType type, Bytes payload);
  void flush_now();
  void count_put(MessageType type, std::size_t payload_bytes, std::size_t size_before);
  void count_sent(MessageType type, std::uint64_t bytes);
  void count_deflated(std::uint64_t raw_bytes);
  void count_inflated(std::uint64_t raw_bytes);
  void end_frame();
  void send_held_pong();
  bool delivers() const {
    return state_ == ReadyState::open || (closing() != nullptr && closing()->delivers);
  }
  bool sends() const {
    return state_ == ReadyState::open ||
           (state_ == ReadyState::closing && protocol_.awaits_payload());
  }
  void send_pong(Bytes payload);
  void send_ping();
  void send_close(std::uint16_t code, std::string_view reason);
  void wrote(std::size_t size_before);
  void update_buffered();
  void over_high_watermark();
  void under_low_watermark();
  void tell_drained();
  void look_at_amount();

  void check_pong();
  void look_at_progress();
  bool takes_bytes();
  bool has_yet_to_read();
  void update_reading();
  void watch_kernel();
  void count_high_watermark(bool over);
  void count_read_pause(bool paused);
  void start_closing(std::uint16_t code, std::string_view text, SessionEnd why,
                     bool delivers = false);
  void await_close();
  void forget_deadlines();
  void set_unclean(SessionEnd& end) const;
  void finish(SessionEnd end);

  const SessionContext& context_;
  net::Transport& transport_;
  Owner& owner_;

  ws::Protocol protocol_;
  std::uint64_t messages_[metrics::direction_count] = {};
  std::uint64_t payload_bytes_[metrics::direction_count] = {};

  std::unique_ptr<Extra> extra_;

  Tick ping_due_ = Tick::never;
  Tick pong_due_ = Tick::never;
  Tick message_due_ = Tick::never;
  Tick idle_due_ = Tick::never;
  std::uint32_t ping_number_ = 0;
  std::uint32_t ping_sent_us_ = 0;  // modulo 2^32: an hour
  std::uint32_t acknowledged_ = 0;  // by the peer when it was last asked, modulo 2^32 bytes

  ReadyState state_ = ReadyState::open;
  std::uint8_t pause_reasons_ = 0;
  bool alive_ : 1 = true;            // a sign of life since the last ping
  bool others_before_ : 1 = false;   // other bytes were on their way before our ping or Close
  bool over_high_ : 1 = false;       // buffered_amount(), since the peer does not take it
  bool seen_over_high_ : 1 = false;  // the same before a flush
  bool drained_ : 1 = false;         // on_session_drain() is due
  bool draining_ : 1 = false;        // close with 1001 at the next message boundary
  bool sends_message_ : 1 = false;   // in frames or pieces of them; more of it is to come
  bool message_moved_ : 1 = false;   // some of a message has come with what was received last
  bool peer_ended_ : 1 = false;      // nothing more comes, but for what is stashed
  bool kernel_watched_ : 1 = false;  // keepalive.tcp_user_timeout is looked at
  bool read_paused_ : 1 = false;
  bool buffered_ : 1 = false;  // buffered_amount() was not 0 when the owner was last told
};

}  // namespace sluice
