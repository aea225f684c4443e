// What stands behind the routes of fuzz_gateway: a bridge and a relay that do what the input says,
// inside of their events and outside, and that hold the gateway to its word.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bridge.h"
#include "fuzz/input.h"
#include "http/response.h"
#include "relay.h"

namespace sluice::fuzz {

// What is common to both: no event comes from inside of a call, of another event, or after the
// last.
class Events {
 public:
  template <typename Act>
  void event(Act act) {
    require(!in_event_ && !in_call_, "no event is delivered from inside a call");
    require(!over_, "nothing follows the last event");
    in_event_ = true;
    act();
    in_event_ = false;
  }
  template <typename Act>
  void call(Act act) {
    const bool outer = std::exchange(in_call_, true);
    act();
    in_call_ = outer;
  }
  void end() { over_ = true; }
  bool over() const { return over_; }
  bool inside() const { return in_event_ || in_call_; }

 private:
  bool in_event_ = false;
  bool in_call_ = false;
  bool over_ = false;
};

class FuzzBridge;
class FuzzRelay;

// What the house knows of them.
struct Cast {
  explicit Cast(Input& from) : input(from) {}
  Input& input;
  std::vector<FuzzBridge*> bridges;
  std::vector<FuzzRelay*> relays;
  std::size_t bridges_made = 0;
  std::size_t bridges_closed = 0;
  bool silent = false;        // they do nothing of their own accord any more
  std::size_t size_max = 0;   // of a message
  std::size_t bytes_max = 0;  // that may wait for a client
};

inline std::string letters(std::size_t size) {
  return std::string(size, 'x');
}

// ---- Relays

class FuzzRelay final : public Relay {
 public:
  explicit FuzzRelay(Cast& cast) : cast_(cast) { cast_.relays.push_back(this); }
  ~FuzzRelay() override {
    require(!events_.inside(), "no relay is destroyed inside of its own event");
    require(client_ == nullptr, "a relay that has begun is told that its client has gone");
    std::erase(cast_.relays, this);
  }

  void on_request(const ClientRequest&, RelayClient& client) override {
    require(client_ == nullptr, "one request");
    client_ = &client;
    events_.event([&] { react(); });
  }
  void on_body(Bytes piece) override {
    require(client_ != nullptr && !body_ended_ && !piece.empty(), "a piece of the body");
    require(!body_paused_, "no body while it is paused");
    events_.event([&] { react(); });
  }
  void on_body_end(const std::vector<http::Header>&) override {
    require(client_ != nullptr && !std::exchange(body_ended_, true), "the body ends once");
    events_.event([&] { react(); });
  }
  void on_drain() override {
    require(client_ != nullptr, "a client to drain to");
    events_.event([&] { react(); });
  }
  void on_gone() override {
    require(client_ != nullptr, "a client that is gone was there");
    events_.event([] {});
    events_.end();
    client_ = nullptr;
  }

  void act() {
    if (client_ == nullptr) return;
    events_.call([&] { do_something(cast_.input.byte()); });
  }
  // Its upstream keeps nobody waiting, and in the end it times out.
  void let_go(bool give_up) {
    if (client_ == nullptr) return;
    events_.call([&] {
      body_paused_ = false;
      client_->resume_body();
      if (give_up) client_->abort_response("fuzz");
    });
  }

 private:
  void react() {
    if (cast_.silent) return;
    for (int count = cast_.input.byte() % 4; count > 0; --count) act();
  }
  void do_something(unsigned what) {
    switch (what % 10) {
      case 0:
        return respond();
      case 1:
      case 2:
        return send(cast_.input.byte() * ((what & 0x40U) != 0 ? 64U : 1U));
      case 3:
        return end();
      case 4:
        return client_->refuse(http::refusal(502, "no"), "fuzz");
      case 5:
        return client_->abort_response("fuzz");
      case 6:
        body_paused_ = true;
        return client_->pause_body();
      case 7:
        body_paused_ = false;
        return client_->resume_body();
      case 8:
        return inform();
      default:
        return;
    }
  }
  void respond() {
    if (std::exchange(responded_, true)) return;
    constexpr int statuses[] = {200, 204, 304, 404};
    http::Response head;
    head.status = statuses[cast_.input.byte() % 4];
    head.headers.push_back({"X-Fuzz", "1"});
    has_length_ = cast_.input.flag();
    if (has_length_) head.content_length = left_ = cast_.input.byte();
    client_->respond(head);
  }
  // A relay sends as many bytes as it has promised.
  void send(std::size_t size) {
    if (!responded_) return;
    if (has_length_) size = std::min(size, left_);
    left_ -= has_length_ ? size : 0;
    client_->send_body(as_bytes(letters(size)));
  }
  void end() {
    if (!responded_) return;
    if (has_length_) send(left_);
    client_->end_response();
  }
  void inform() {
    http::Response head;
    head.status = 103;
    client_->inform(head);
  }

  Cast& cast_;
  Events events_;
  RelayClient* client_ = nullptr;
  std::size_t left_ = 0;  // of the body's length
  bool has_length_ = false;
  bool responded_ = false;
  bool body_ended_ = false;
  bool body_paused_ = false;
};

class FuzzRelays final : public RelayFactory {
 public:
  explicit FuzzRelays(Cast& cast) : cast_(cast) {}
  std::unique_ptr<Relay> create() override { return std::make_unique<FuzzRelay>(cast_); }

 private:
  Cast& cast_;
};

// ---- Bridges

class FuzzBridge final : public Bridge {
 public:
  FuzzBridge(Cast& cast, ClientSocket& socket, bool streaming)
      : cast_(cast), socket_(&socket), streams_(streaming) {
    cast_.bridges.push_back(this);
    ++cast_.bridges_made;
  }
  ~FuzzBridge() override {
    require(!events_.inside(), "no bridge is destroyed inside of its own event");
    require(events_.over(), "every bridge hears on_close");
    std::erase(cast_.bridges, this);
  }

  void on_open(const UpgradeRequest& request) override {
    require(!std::exchange(opened_, true), "on_open comes once");
    require(request.path().starts_with('/'), "a path");
    outlives_ = cast_.input.flag();
    event([&] { react(); });
  }
  bool streams() const override { return streams_; }
  void on_message(MessageType, Bytes payload) override {
    look();
    require(opened_ && !streams_ && state_ == ReadyState::open, "messages come while OPEN");
    require(payload.size() <= cast_.size_max, "no message is larger than it may be");
    event([&] { react(); });
  }
  bool on_piece(const MessagePiece& piece) override {
    look();
    require(opened_ && streams_, "pieces come to bridges that stream");
    require(state_ == ReadyState::open || (closed_with_ && state_ == ReadyState::closing),
            "pieces come while OPEN, or when the bridge has closed");
    require(piece.frame_start != in_piece_, "a frame begins where none is");
    in_piece_ = !piece.frame_end;
    event([&] { react(); });
    return true;
  }
  void on_drain() override {
    look();
    require(state_ == ReadyState::open || frame_left_ > 0, "a drain is for who may send");
    event([&] { react(); });
  }
  void on_close(const CloseEvent& close) override {
    look();
    require(state_ == ReadyState::closed, "on_close comes when CLOSED");
    require(!close.was_clean || close.code != 1006, "1006 is not clean");
    event([] {});
    events_.end();
    socket_ = nullptr;
    ++cast_.bridges_closed;
  }
  bool outlives_socket() const override { return outlives_; }
  void set_keeper(Keeper& keeper) override { keeper_ = &keeper; }
  void cut() override { outlives_ = false; }

  void act() {
    if (keeper_ != nullptr) return finish();
    if (socket_ == nullptr) return;
    events_.call([&] { do_something(cast_.input.byte()); });
    look();
  }
  // readyState only moves forward.
  void look() {
    if (socket_ == nullptr) return;
    const ReadyState now = socket_->ready_state();
    require(now >= state_, "readyState only moves forward");
    if (state_ == ReadyState::connecting) earlier_bytes_ = socket_->buffered_amount();
    state_ = now;
    if (streams_) return;  // whoever streams stops by itself
    require(socket_->buffered_amount() <= earlier_bytes_ + cast_.bytes_max,
            "what waits is bounded");
  }
  void let_go() {
    if (keeper_ != nullptr) return finish();
    if (socket_ == nullptr) return;
    events_.call([&] { socket_->resume(); });
    look();
  }

 private:
  template <typename Act>
  void event(Act act_now) {
    look();
    events_.event(act_now);
    look();
  }
  void react() {
    if (cast_.silent) return;
    for (int count = cast_.input.byte() % 4; count > 0; --count) act();
  }
  void finish() { std::exchange(keeper_, nullptr)->on_bridge_done(*this); }
  void do_something(unsigned what) {
    const std::size_t size = cast_.input.byte() * ((what & 0x40U) != 0 ? 16U : 1U);
    const MessageType type = (what & 0x80U) != 0 ? MessageType::text : MessageType::binary;
    switch (what % 16) {
      case 0:
      case 1:
        socket_->accept();
        return;
      case 2:
        return socket_->reject(static_cast<int>(size), "no\r\nX: y");
      case 3:
        return answer();
      case 4:
      case 5:
      case 6:
      case 7:
        return streams_ ? stream(type, size) : send(type, size);
      case 8:
        return close();
      case 9:
        return close_with();
      case 10:
        return abort();
      case 11:
        return socket_->pause();
      case 12:
      case 13:
        return socket_->resume();
      case 14:
        return socket_->fail("fuzz");
      default:
        return accept_as();
    }
  }
  void send(MessageType type, std::size_t size) {
    socket_->send(type, as_bytes(letters(std::min(size, cast_.size_max))));
  }
  // A frame, or more of the one that has begun.
  void stream(MessageType type, std::size_t size) {
    if (socket_->ready_state() == ReadyState::open && frame_left_ == 0) return begin(type, size);
    const std::size_t piece = std::min(size, frame_left_);
    if (piece == 0) return;
    frame_left_ -= piece;
    socket_->send_payload(as_bytes(letters(piece)));
  }
  void begin(MessageType type, std::size_t size) {
    const bool message_end = cast_.input.flag();
    const bool message_start = !std::exchange(in_message_, !message_end);
    if (message_start) type_ = type;
    frame_left_ = size;
    socket_->begin_frame(type_, message_start, message_end, size);
  }
  void answer() {
    if (cast_.input.flag()) return socket_->answer_plainly(std::make_unique<FuzzRelay>(cast_));
    socket_->reject_with(http::refusal(502, "no"), metrics::HandshakeResult::upstream_refused,
                         "fuzz");
  }
  void accept_as() {
    constexpr std::string_view names[] = {"", "chat", "other"};
    const std::string_view name = names[cast_.input.byte() % 3];
    socket_->accept_as(name, {{"X-Fuzz", cast_.input.flag() ? "1" : "a\nb"}});
  }
  void close() {
    const std::uint16_t code = cast_.input.u16();
    socket_->close(code, letters(cast_.input.byte()));
  }
  void close_with() {
    closed_with_ = socket_->ready_state() == ReadyState::open || closed_with_;
    socket_->close_with({.code = cast_.input.u16(), .text = letters(cast_.input.byte() % 124)});
  }
  void abort() {
    const auto initiator =
        cast_.input.flag() ? metrics::Initiator::upstream : metrics::Initiator::plugin;
    socket_->abort({.code = 1006, .text = {}, .initiator = initiator});
  }

  Cast& cast_;
  Events events_;
  ClientSocket* socket_;
  Keeper* keeper_ = nullptr;
  ReadyState state_ = ReadyState::connecting;
  std::size_t earlier_bytes_ = 0;  // answers to earlier requests that waited when it opened
  std::size_t frame_left_ = 0;     // of the frame that is being sent
  MessageType type_ = MessageType::binary;
  const bool streams_;
  bool opened_ = false;
  bool outlives_ = false;
  bool closed_with_ = false;
  bool in_piece_ = false;
  bool in_message_ = false;
};

class FuzzBridges final : public BridgeFactory {
 public:
  FuzzBridges(Cast& cast, bool streaming) : cast_(cast), streaming_(streaming) {}
  std::unique_ptr<Bridge> create(ClientSocket& socket) override {
    return std::make_unique<FuzzBridge>(cast_, socket, streaming_);
  }

 private:
  Cast& cast_;
  const bool streaming_;
};

}  // namespace sluice::fuzz
