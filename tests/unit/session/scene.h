// A Session on a transport whose kernel is a number and a clock that the test turns. The scene does
// what a Connection does between the two, and writes down what the session tells its owner.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "session.h"
#include "support/fake_transport.h"
#include "support/websocket_peer.h"

namespace sluice::test {

class Scene final : private Session::Owner {
 public:
  // `adjust` changes the route before the session begins. Pings are off unless it wants them. With
  // `compression` the client has agreed to permessage-deflate, without context takeover.
  explicit Scene(const std::function<void(config::Route&)>& adjust = {},
                 ws::CompressionPool* compression = nullptr) {
    route.keepalive.ping_interval_ms = 0;
    if (adjust) adjust(route);
    settings = std::make_unique<SessionSettings>(route);
    settings->protocol.compression.pool = compression;
    context.emplace(SessionContext{*settings, wheel, counters});
    ws::Compression agreed;
    if (compression != nullptr) agreed.use = ws::Compression::Use::deflate;
    session = std::make_unique<Session>(ws::Role::server, *context, transport,
                                        static_cast<Session::Owner&>(*this), std::move(agreed));
  }

  ~Scene() override { wheel.set(*this, TimerWheel::never); }

  // ---- What the client does. Each is one turn of the loop, to its end.
  void receive(std::string bytes) {
    // Exactly as big as it must be, so that a sanitizer sees a step beside it.
    const auto memory = std::make_unique<std::uint8_t[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), memory.get());
    session->receive({memory.get(), bytes.size()});
    turn();
  }
  void client_stops_reading() { transport.room = 0; }
  void client_reads(std::size_t bytes = FakeTransport::unlimited) {
    transport.room = bytes;
    if (transport.blocked()) {
      transport.flush();
      session->on_sent();
    }
    turn();
  }
  // The frames that have reached it since the last call.
  std::string client_got() {
    const std::string bytes = std::move(transport.taken);
    transport.taken.clear();
    return client.read(bytes);
  }

  // ---- What the bridge does. Nothing may be delivered from inside of these calls.
  void send(std::string_view text) { send(MessageType::text, text); }
  void send(MessageType type, std::string_view payload) {
    call([&] { session->send(type, as_bytes(payload)); });
  }
  bool close(std::uint16_t code = 1000, std::string_view reason = {}) {
    bool accepted = false;
    call([&] { accepted = session->close(code, reason, metrics::Initiator::plugin); });
    return accepted;
  }
  void pause(Session::PauseReason reason = Session::asked) {
    call([&] { session->pause(reason); });
  }
  void resume(Session::PauseReason reason = Session::asked) {
    call([&] { session->resume(reason); });
  }

  // The end of a turn, as Connection has it.
  void turn() {
    flush();
    for (int i = 0; woken_ && i < 16; ++i) {
      woken_ = false;
      session->turn_end();
      look();
      flush();
    }
    look();
  }

  // Time goes by, in the wheel's ticks.
  void wait(std::uint64_t ms) {
    for (std::uint64_t passed = 0; passed < ms;) {
      const std::uint64_t step = std::min(ms - passed, TimerWheel::tick_ms);
      passed += step;
      clock_ms += step;
      wheel.advance(clock_ms);
      turn();
    }
  }

  // What the owner was told since the last call: "text 'Hello'; drain; end".
  std::string told() { return std::exchange(told_, {}); }

  // "gateway idle_timeout 1001 'timeouts.idle' unclean"; "open" while it lasts.
  std::string end() const {
    const SessionEnd* end = session->end();
    if (end == nullptr) return "open";
    return std::string(metrics::label(end->initiator)) + " " + metrics::label(end->reason) + " " +
           std::to_string(end->code) + " '" + end->text + "' " +
           (end->was_clean ? "clean" : "unclean");
  }
  std::string detail() const { return session->end() == nullptr ? "" : session->end()->detail; }

  const metrics::TrafficCounters& in() const {
    return counters.traffic[metrics::client_to_upstream];
  }
  const metrics::TrafficCounters& out() const {
    return counters.traffic[metrics::upstream_to_client];
  }
  std::uint64_t rejections(metrics::Limit limit) const {
    return counters.limit_rejections[static_cast<std::size_t>(limit)].get();
  }

  config::Route route;
  std::unique_ptr<SessionSettings> settings;
  ChunkPool pool;
  FakeTransport transport{pool};
  std::uint64_t clock_ms = 1'000'000;
  TimerWheel wheel{clock_ms};
  metrics::RouteCounters counters;
  std::optional<SessionContext> context;
  Session::Waiting waiting;  // as the owner was last told
  WebSocketPeer client;
  std::unique_ptr<Session> session;
  std::function<void(MessageType, std::string_view)> on_message;
  std::function<void()> on_drain;
  bool takes = true;  // the pieces that it is told

 private:
  template <typename Call>
  void call(Call call) {
    inside_call_ = true;
    call();
    inside_call_ = false;
    look();
  }
  void flush() {
    if (!transport.output().empty() && !transport.blocked()) transport.flush();
    session->on_flushed();
  }
  // The mirror: readyState only moves forward.
  void look() {
    CHECK(static_cast<int>(session->ready_state()) >= static_cast<int>(state_));
    state_ = session->ready_state();
  }
  void tell(const std::string& what) {
    look();
    if (!told_.empty()) told_ += "; ";
    told_ += what;
  }

  void on_session_message(MessageType type, Bytes payload) override {
    CHECK_FALSE(inside_call_);
    CHECK(session->ready_state() == ReadyState::open);
    tell(shown(type, payload));
    if (on_message) on_message(type, as_text(payload));
  }
  // "([text 'Hello'])": brackets for the start and end of the frame, parentheses for the message.
  bool on_session_piece(const MessagePiece& piece) override {
    CHECK_FALSE(inside_call_);
    std::string text = piece.message_start ? "(" : "";
    if (piece.frame_start) text += "[" + std::to_string(piece.frame_payload_bytes) + " ";
    text += shown(piece.type, piece.payload);
    if (piece.frame_end) text += piece.fin ? "])" : "]";
    tell(text);
    return takes;
  }
  void on_session_drain() override {
    CHECK_FALSE(inside_call_);
    CHECK((session->ready_state() == ReadyState::open || session->in_frame()));
    tell("drain");
    if (on_drain) on_drain();
  }
  void on_session_wake() override { woken_ = true; }
  void on_session_waiting() override { waiting = session->waiting(); }
  void on_deadline() override { session->on_deadline(); }
  void on_session_end() override {
    CHECK(session->ready_state() == ReadyState::closed);
    tell("end");
  }

  std::string told_;
  ReadyState state_ = ReadyState::open;
  bool inside_call_ = false;
  bool woken_ = false;
};

inline std::string letters(std::size_t count, char letter = 'x') {
  return std::string(count, letter);
}

}  // namespace sluice::test
