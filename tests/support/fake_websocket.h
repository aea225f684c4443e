// FakeWebSocket and FakeRequest: a client for the tests of bridges. What the bridge does is written
// down; what the client does is set by hand.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge.h"
#include "client_socket.h"
#include "relay.h"
#include "websocket.h"
#include "ws/prepared_message.h"

namespace sluice::test {

struct FakeRequest final : UpgradeRequest {
  std::string_view path() const override { return path_; }
  std::string_view query() const override { return query_; }
  std::string_view host() const override { return host_; }
  std::string_view origin() const override { return origin_; }
  std::string_view client_address() const override { return client_address_; }
  std::string_view route() const override { return route_; }
  std::string_view header(std::string_view name) const override { return find(headers_, name); }
  std::string_view parameter(std::string_view name) const override {
    return find(parameters_, name);
  }
  std::string_view offered_protocol(std::size_t index) const override {
    return index < offered_.size() ? std::string_view(offered_[index]) : std::string_view();
  }

  std::string path_ = "/echo";
  std::string query_;
  std::string host_ = "example.org";
  std::string origin_ = "https://example.org";
  std::string client_address_ = "192.0.2.1:49152";
  std::string route_ = "echo";
  std::map<std::string, std::string, std::less<>> headers_;  // names as they will be asked for
  std::map<std::string, std::string, std::less<>> parameters_;
  std::vector<std::string> offered_;

 private:
  using Fields = std::map<std::string, std::string, std::less<>>;
  static std::string_view find(const Fields& fields, std::string_view name) {
    const auto found = fields.find(name);
    return found == fields.end() ? std::string_view() : std::string_view(found->second);
  }
};

// Sends in pieces are put together again: a frame is written down when its last byte has come.
struct FakeWebSocket final : ClientSocket {
  struct Frame {
    MessageType type;
    bool message_start;
    bool message_end;
    std::string payload;
    bool operator==(const Frame&) const = default;
  };
  struct Sent {
    MessageType type;
    std::string payload;
    bool operator==(const Sent&) const = default;
  };
  struct Closed {
    std::uint16_t code;
    std::string reason;
    bool operator==(const Closed&) const = default;
  };

  ReadyState ready_state() const override { return state; }
  std::size_t buffered_amount() const override { return buffered; }
  std::string_view protocol() const override { return agreed; }

  bool accept(std::string_view subprotocol) override {
    if (state != ReadyState::connecting) return true;
    if (not_offered == subprotocol) return false;
    accepted = std::string(subprotocol);
    agreed = subprotocol;
    state = ReadyState::open;
    return true;
  }
  void reject(int status, std::string_view reason) override {
    if (state != ReadyState::connecting) return;
    rejected = {static_cast<std::uint16_t>(status), std::string(reason)};
    state = ReadyState::closed;
  }
  void send(MessageType type, Bytes payload) override {
    if (state == ReadyState::open) sent.push_back({type, std::string(as_text(payload))});
  }
  bool close(std::uint16_t code, std::string_view reason) override {
    if ((code != 1000 && (code < 3000 || code > 4999)) || reason.size() > 123) return false;
    if (state == ReadyState::open) {
      closed = {code, std::string(reason)};
      state = ReadyState::closing;
    }
    return true;
  }
  void fail(std::string_view what) override {
    failed = std::string(what);
    state = state == ReadyState::connecting ? ReadyState::closed : ReadyState::closing;
  }
  void pause() override { paused = true; }
  void resume() override { paused = false; }

  ClientRequest handshake() const override {
    return {.request = http_request,
            .rest = http_request.path,
            .parameters = http_parameters,
            .client = {},
            .secure = false};
  }
  net::Endpoint local_endpoint() const override { return {}; }
  void accept_as(std::string_view subprotocol, std::vector<http::Header> headers,
                 std::string_view) override {
    if (state != ReadyState::connecting) return;
    accept(subprotocol);
    accepted_headers = std::move(headers);
  }
  void name_upstream(std::string_view upstream, std::string_view endpoint) override {
    named = std::string(upstream) + " " + std::string(endpoint);
  }
  void reject_with(http::Response response, metrics::HandshakeResult result,
                   std::string_view why) override {
    if (state != ReadyState::connecting) return;
    rejected_response = std::move(response);
    rejected_result = result;
    reject(rejected_response->status, why);
  }
  void answer_plainly(std::unique_ptr<Relay> relay_now) override {
    if (state != ReadyState::connecting) return;
    state = ReadyState::closed;
    relay = std::move(relay_now);
  }
  void begin_frame(MessageType type, bool message_start, bool message_end,
                   std::uint64_t payload_bytes, bool) override {
    if (state != ReadyState::open) return;
    frame = Frame{type, message_start, message_end, {}};
    frame_bytes = payload_bytes;
    if (frame_bytes == 0) frames.push_back(frame);
  }
  void send_payload(Bytes piece) override {
    if (state != ReadyState::open) return;
    frame.payload += as_text(piece);
    if (frame.payload.size() == frame_bytes) frames.push_back(frame);
  }
  void pass_on(const MessagePiece& piece) override {
    if (piece.frame_start) {
      begin_frame(piece.type, piece.message_start, piece.fin, piece.frame_payload_bytes,
                  piece.compressed);
    }
    if (!piece.payload.empty()) send_payload(piece.payload);
  }
  bool send_prepared(ws::PreparedMessage& message) override {
    if (state != ReadyState::open || refuses_prepared) return false;
    send(message.type(), message.payload());
    return true;
  }
  void close_with(const Ending& how) override {
    if (state != ReadyState::open) return;
    ending = how;
    state = ReadyState::closing;
  }
  void abort(const Ending& how) override {
    ending = how;
    aborted = true;
    state = ReadyState::closed;
  }
  void set_upstream_buffered(std::size_t app_bytes, std::size_t tls_bytes) override {
    upstream_buffered = app_bytes + tls_bytes;
  }
  std::uint64_t id() const override { return 1; }

  http::Request http_request;
  std::vector<std::pair<std::string, std::string>> http_parameters;
  std::vector<http::Header> accepted_headers;
  std::optional<http::Response> rejected_response;
  std::optional<metrics::HandshakeResult> rejected_result;
  std::unique_ptr<Relay> relay;
  Frame frame{};  // the one that is being sent
  std::uint64_t frame_bytes = 0;
  std::vector<Frame> frames;
  std::optional<Ending> ending;
  std::string named;  // "upstream endpoint"
  bool aborted = false;
  std::size_t upstream_buffered = 0;
  ReadyState state = ReadyState::connecting;
  std::size_t buffered = 0;
  bool refuses_prepared = false;
  std::string agreed;
  bool paused = false;
  std::vector<Sent> sent;
  std::optional<std::string> not_offered;
  std::optional<std::string> accepted;  // the subprotocol that accept() named
  std::optional<Closed> rejected;
  std::optional<Closed> closed;
  std::optional<std::string> failed;
};

}  // namespace sluice::test
