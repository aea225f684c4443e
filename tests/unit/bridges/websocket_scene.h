// A websocket bridge between a client that is set by hand and an upstream that the test plays over
// a real socket, on a real loop with a clock that the test turns.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "bridges/websocket_bridge.h"
#include "support/fake_websocket.h"
#include "support/stream.h"
#include "support/websocket_peer.h"
#include "ws/handshake.h"

namespace sluice::bridges {

// The server's end of a WebSocket: makes frames, and says in short lines which ones it was sent:
// "text 'Hello'"; "text- 'He'" and "- 'll'" for fragments that are not the last, "+ 'o'" for the
// last one.
class ServerPeer {
 public:
  std::string text(std::string_view payload) { return fragment(payload, true, true); }
  std::string fragment(std::string_view payload, bool first, bool last,
                       MessageType type = MessageType::text) {
    return bytes([&](ByteQueue& out) {
      protocol_.send_fragment(type, as_bytes(payload), first, last, out);
    });
  }
  std::string ping(std::string_view payload) {
    return bytes([&](ByteQueue& out) { protocol_.send_ping(as_bytes(payload), out); });
  }
  std::string close(std::uint16_t code, std::string_view reason = {}) {
    return bytes([&](ByteQueue& out) { protocol_.send_close(code, reason, out); });
  }

  void receive(std::string bytes) {
    protocol_.receive({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    while (const auto event = protocol_.next_event()) {
      switch (event->type) {
        case ws::Event::Type::data:
          data(*event);
          break;
        case ws::Event::Type::ping:
          line("ping");
          break;
        case ws::Event::Type::pong:
          line("pong " + test::shown(event->payload));
          break;
        case ws::Event::Type::close:
          line("close " + std::to_string(event->close_code) + " " + test::shown(event->payload));
          break;
        case ws::Event::Type::failure:
          line("BROKEN " + std::string(as_text(event->payload)));
          break;
      }
    }
  }
  const std::string& lines() const { return lines_; }

  std::uint64_t payload_bytes = 0;
  std::function<void(Bytes)> on_payload;  // in the place of lines

 private:
  void data(const ws::Event& event) {
    payload_bytes += event.payload.size();
    if (on_payload) return on_payload(event.payload);
    frame_ += as_text(event.payload);
    first_ = event.message_start || (first_ && !event.frame_start);
    if (!event.frame_end) return;
    const std::string type = event.message_type == MessageType::text ? "text" : "binary";
    line((first_      ? type + (event.fin ? " " : "- ")
          : event.fin ? "+ "
                      : "- ") +
         test::shown(as_bytes(frame_)));
    frame_.clear();
    first_ = false;
  }
  void line(const std::string& text) {
    if (!lines_.empty()) lines_ += "; ";
    lines_ += text;
  }
  template <typename Write>
  std::string bytes(Write write) {
    ByteQueue queue(pool_);
    write(queue);
    return queue.to_string();
  }

  ChunkPool pool_;
  ws::ProtocolLimits limits_;
  ws::Protocol protocol_{ws::Role::server, limits_};
  std::string frame_;
  std::string lines_;
  bool first_ = false;
};

// The scripted upstream: one listening socket, one connection at a time, never blocking.
class ScriptedUpstream {
 public:
  ScriptedUpstream() {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    REQUIRE(::listen(listener_, 8) == 0);
  }
  ~ScriptedUpstream() {
    close();
    stop_listening();
  }
  ScriptedUpstream(const ScriptedUpstream&) = delete;
  ScriptedUpstream& operator=(const ScriptedUpstream&) = delete;

  bool accept() {
    fd_ = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd_ >= 0;
  }
  // Takes what has come; returns false when there is nothing for now.
  bool read() {
    char buffer[64 * 1024];
    const ssize_t count = ::recv(fd_, buffer, sizeof buffer, 0);
    if (count > 0) {
      if (!switched) {
        head.append(buffer, static_cast<std::size_t>(count));
      } else {
        peer.receive(std::string(buffer, static_cast<std::size_t>(count)));
      }
      return true;
    }
    if (count == 0) ending = "end";
    if (count < 0 && errno != EAGAIN) ending = "reset";
    return false;
  }
  // As much as the kernel takes; returns the rest.
  std::string_view write_some(std::string_view bytes) {
    const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
    return bytes;
  }
  void write(std::string_view bytes) { REQUIRE(write_some(bytes).empty()); }
  void end() { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void reset() {
    const linger abort{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    close();
  }
  void stop_listening() {
    if (listener_ >= 0) ::close(std::exchange(listener_, -1));
  }

  // The value of a field of the request's head; empty if there is none.
  std::string field(std::string_view name) const {
    const std::string wanted = "\r\n" + std::string(name) + ": ";
    const std::size_t found = head.find(wanted);
    if (found == std::string::npos) return {};
    const std::size_t begin = found + wanted.size();
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
  // A 101 as it should be.
  std::string switching(const std::string& more = {}) const {
    return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: " +
           ws::accept_key(field("Sec-WebSocket-Key")) + "\r\n" + more + "\r\n";
  }

  std::uint16_t port = 0;
  std::string head;       // of the request
  bool switched = false;  // what comes are frames
  ServerPeer peer;
  std::string ending;  // "end", "reset"; empty while it lasts

 private:
  int listener_ = -1;
  int fd_ = -1;
};

class BridgeScene final : private Bridge::Keeper {
 public:
  explicit BridgeScene(const std::function<void(config::Route&, config::Upstream&)>& adjust = {}) {
    config::Upstream upstream;
    upstream.endpoints = {{"127.0.0.1:" + std::to_string(server.port), 1}};
    route.name = "app";
    route.path = "/app/*";
    route.target.emplace<config::HttpTarget>().upstream = "app";
    route.limits.message_bytes_max = 0;
    route.limits.fragments_max = 0;
    route.keepalive.ping_interval_ms = 0;
    if (adjust) adjust(route, upstream);
    loop.at_turn_end = [this] { turn_end(); };
    auto created = upstreams::Upstream::create("app", upstream);
    REQUIRE_MESSAGE(created.has_value(), created.error().message);
    service = *std::move(created);
    factory = std::make_unique<WebSocketBridgeFactory>(
        HttpRoute{context, *pool, service, route, trusted});
    http::Request& sent = socket.http_request;
    sent.method = "GET";
    sent.target = "/app/room?q=1&q=%20";
    sent.path = "/app/room";
    sent.query = "q=1&q=%20";
    sent.host = sent.authority = "example.org";
    sent.headers = {{"Host", "example.org"},
                    {"Connection", "Upgrade"},
                    {"Upgrade", "websocket"},
                    {"Sec-WebSocket-Version", "13"},
                    {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};
    bridge = factory->create(socket);
  }
  ~BridgeScene() {
    bridge.reset();
    socket.relay.reset();
    run([this] { return turn.idle(); });
    factory.reset();
    pool.reset();
    service.reset();
    run([this] { return turn.idle(); });
    CHECK(loop.loop.close().has_value());
  }

  // ---- Steps
  void run(const std::function<bool()>& until) { loop.run_until(until); }
  // Until nothing happens any more of what the other side has already caused.
  void settle() {
    for (int i = 0; i < 5; ++i) {
      bool turned = false;
      loop.loop.post([&] { turned = true; });
      run([&] { return turned; });
    }
  }
  BridgeScene& open_request() {
    bridge->on_open(request);
    run([this] { return server.accept(); });
    run([this] {
      while (server.read()) continue;
      return server.head.ends_with("\r\n\r\n");
    });
    return *this;
  }
  // An open WebSocket on either side.
  BridgeScene& open(const std::string& more = {}) {
    open_request();
    server.switched = true;
    server.write(server.switching(more));
    run([this] { return socket.state != ReadyState::connecting; });
    REQUIRE(socket.state == ReadyState::open);
    return *this;
  }
  // A frame of the client's, in pieces of `piece` bytes.
  void client_sends(std::string_view payload, bool first = true, bool fin = true,
                    std::size_t piece_bytes = 1 << 20, MessageType type = MessageType::text) {
    const std::size_t size = payload.size();
    bool start = true;
    do {
      const std::string_view piece = payload.substr(0, piece_bytes);
      payload.remove_prefix(piece.size());
      bridge->on_piece({.type = type,
                        .message_start = first && start,
                        .frame_start = start,
                        .frame_end = payload.empty(),
                        .fin = fin,
                        .compressed = false,
                        .frame_payload_bytes = size,
                        .payload = as_bytes(piece)});
      start = false;
    } while (!payload.empty());
  }
  // The beginning of a frame that is never finished.
  void client_begins(std::string_view payload, std::uint64_t announced) {
    bridge->on_piece({.type = MessageType::text,
                      .message_start = true,
                      .frame_start = true,
                      .frame_end = false,
                      .fin = true,
                      .compressed = false,
                      .frame_payload_bytes = announced,
                      .payload = as_bytes(payload)});
  }
  // The client's WebSocket has ended; what the worker then does with the bridge.
  void client_ends(std::uint16_t code, std::string_view reason, metrics::Initiator initiator) {
    socket.state = ReadyState::closed;
    bridge->on_close({code, reason, code != 1006, initiator});
    if (bridge->outlives_socket()) {
      bridge->set_keeper(*this);
    } else {
      turn.retire(std::move(bridge));
    }
  }
  std::string server_gets(std::size_t size_min) {
    run([&] {
      while (server.read()) continue;
      return server.peer.lines().size() >= size_min || !server.ending.empty();
    });
    return server.peer.lines();
  }
  // Everything up to the end of the stream.
  std::string server_gets_end() {
    run([&] {
      while (server.read()) continue;
      return !server.ending.empty();
    });
    return server.peer.lines() + " | " + server.ending;
  }
  void wait(std::uint64_t ms) {
    for (std::uint64_t passed = 0; passed < ms; passed += TimerWheel::tick_ms) {
      clock_ms += TimerWheel::tick_ms;
      wheel.advance(clock_ms);
      settle();
    }
  }
  // "text 'Hello'; text- 'He'; + 'llo'", as ServerPeer has it.
  std::string client_got() const {
    std::string lines;
    for (const auto& frame : socket.frames) {
      const std::string type = frame.type == MessageType::text ? "text" : "binary";
      if (!lines.empty()) lines += "; ";
      lines += (frame.message_start ? type + (frame.message_end ? " " : "- ")
                : frame.message_end ? "+ "
                                    : "- ") +
               test::shown(as_bytes(frame.payload));
    }
    return lines;
  }
  // "1014 'upstream lost' upstream upstream_failed"; "aborted" in front if there is no Close frame.
  std::string client_ending() const {
    if (!socket.ending) return "none";
    const Ending& ending = *socket.ending;
    return std::string(socket.aborted ? "aborted " : "") + std::to_string(ending.code) + " '" +
           ending.text + "' " + metrics::label(ending.initiator) + " " +
           metrics::label(ending.reason);
  }

  ScriptedUpstream server;
  test::TestLoop loop;
  net::IoBuffers buffers;
  std::uint64_t clock_ms = 1'000'000;
  TimerWheel wheel{clock_ms};
  Turn turn;
  metrics::WorkerCounters counters{1};
  ws::CompressionPool compression{64 * 1024 * 1024};
  WorkerContext context{loop.loop, wheel, buffers, turn, counters, compression};
  std::unique_ptr<upstreams::HttpPool> pool = std::make_unique<upstreams::HttpPool>(context);
  http::TrustedProxies trusted;
  config::Route route;
  std::shared_ptr<upstreams::Upstream> service;
  std::unique_ptr<WebSocketBridgeFactory> factory;
  test::FakeWebSocket socket;
  test::FakeRequest request;
  std::unique_ptr<Bridge> bridge;
  bool done = false;  // the bridge, which had outlived its socket

 private:
  void turn_end() {
    for (int round = 0; round < 16 && turn.has_woken(); ++round) turn.run_woken();
    turn.bury();
    if (!turn.idle()) loop.loop.post([] {});
  }
  void on_bridge_done(Bridge& ended) override {
    REQUIRE(&ended == bridge.get());
    done = true;
    turn.retire(std::move(bridge));
  }
};

}  // namespace sluice::bridges
