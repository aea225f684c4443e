// A worker's surroundings without the worker, an upstream that a test scripts, and an owner of
// exchanges that writes down what it is told. All of it on one loop, over real sockets.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/stream.h"
#include "upstreams/http_exchange.h"
#include "upstreams/http_pool.h"
#include "uv/poll.h"

namespace sluice::test {

// One connection to the scripted upstream.
class Peer final : private uv::Poll::Owner {
 public:
  Peer(uv::Loop& loop, int fd, std::function<void(Peer&)> script)
      : fd_(fd),
        script_(std::move(script)),
        poll_(std::make_unique<uv::Poll>(loop, fd, static_cast<uv::Poll::Owner&>(*this))) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch();
  }
  ~Peer() { close(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // What the kernel does not take yet follows by itself.
  void send(std::string_view text) {
    unsent_ += text;
    write();
  }
  void read(bool wanted) {
    reading_ = wanted;
    watch();
  }
  void shutdown() const { ::shutdown(fd_, SHUT_WR); }
  void close() {
    poll_.reset();
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void reset() {
    const linger abort{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    close();
  }

  // The head of the last request has come whole; of requests without a body, the request.
  bool has_head() const { return received.find("\r\n\r\n") != std::string::npos; }
  std::string body() const { return received.substr(received.find("\r\n\r\n") + 4); }
  std::size_t unsent() const { return unsent_.size(); }

  std::string received;
  bool ended = false;  // or broken

 private:
  void on_poll(uv::Poll::Events events) override {
    if (events.writable) write();
    if (!events.readable && !events.failed) return;
    char bytes[65536];
    const ssize_t count = ::recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count > 0) received.append(bytes, static_cast<std::size_t>(count));
    if (count <= 0) {
      ended = true;
      watch();
    }
    script_(*this);
  }
  void write() {
    while (!unsent_.empty() && fd_ >= 0) {
      const ssize_t count =
          ::send(fd_, unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0) break;
      unsent_.erase(0, static_cast<std::size_t>(count));
    }
    watch();
  }
  void watch() {
    if (poll_ != nullptr) poll_->watch(reading_ && !ended, !unsent_.empty());
  }

  int fd_;
  std::function<void(Peer&)> script_;
  bool reading_ = true;
  std::string unsent_;
  std::unique_ptr<uv::Poll> poll_;
};

class ScriptedUpstream final : private uv::Poll::Owner {
 public:
  explicit ScriptedUpstream(uv::Loop& loop) : loop_(loop) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(fd_, 16) == 0);
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    poll_ = std::make_unique<uv::Poll>(loop, fd_, static_cast<uv::Poll::Owner&>(*this));
    poll_->watch(true, false);
  }
  ~ScriptedUpstream() { stop_listening(); }
  ScriptedUpstream(const ScriptedUpstream&) = delete;
  ScriptedUpstream& operator=(const ScriptedUpstream&) = delete;

  // From now on connections are refused.
  void stop_listening() {
    poll_.reset();
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  Peer& last() { return *peers.back(); }

  std::vector<std::unique_ptr<Peer>> peers;  // in the order in which they came
  std::function<void(Peer&)> on_data;        // also at the end

 private:
  void on_poll(uv::Poll::Events) override {
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    peers.push_back(std::make_unique<Peer>(loop_, fd, [this](Peer& peer) {
      if (on_data) on_data(peer);
    }));
  }

  uv::Loop& loop_;
  int fd_ = -1;
  int port_ = 0;
  std::unique_ptr<uv::Poll> poll_;
};

// Writes down what an exchange tells: "103; 200; 'Hello'; end".
class ExchangeOwner final : public upstreams::HttpExchange::Owner {
 public:
  void on_informational(const http::ResponseHead& response) override {
    tell(std::to_string(response.status));
  }
  void on_response(const http::ResponseHead& response) override {
    head = response;
    tell(std::to_string(response.status));
    if (response_then) response_then();
  }
  void on_response_body(Bytes piece) override {
    told();
    body += as_text(piece);
    if (body_then) body_then();
  }
  void on_response_end(const std::vector<http::Header>& trailers) override {
    flush_body();
    tell("end");
    for (const http::Header& field : trailers) told_ += " " + field.name + "=" + field.value;
    over = true;
  }
  void on_request_drain() override {
    told();
    ++drains;
  }
  void on_exchange_failure(const upstreams::HttpFailure& how) override {
    constexpr const char* kinds[] = {"connect", "timeout", "broken", "malformed", "cut off"};
    flush_body();
    tell(std::string(kinds[static_cast<int>(how.kind)]) + " " + std::to_string(how.http_status()));
    failure = how;
    over = true;
  }

  const std::string& log() const { return told_; }

  std::optional<http::ResponseHead> head;
  std::string body;
  std::optional<upstreams::HttpFailure> failure;
  bool over = false;
  int drains = 0;
  bool in_call = false;  // of the test's: no event may come
  std::function<void()> response_then;
  std::function<void()> body_then;

 private:
  void told() const {
    CHECK_FALSE(in_call);
    CHECK_FALSE(over);
  }
  void tell(const std::string& what) {
    told();
    if (!told_.empty()) told_ += "; ";
    told_ += what;
  }
  // Long ones by their length.
  void flush_body() {
    if (body.empty()) return;
    tell(body.size() > 100 ? std::to_string(body.size()) + " bytes" : "'" + body + "'");
  }

  std::string told_;
};

// What a worker lends, its pool, and an upstream with one endpoint.
struct HttpScene {
  HttpScene() {
    loop.at_turn_end = [this] { end_turn(); };
    config.endpoints.push_back({.address = server.address()});
    make_upstream();
  }
  ~HttpScene() {
    exchanges.clear();
    pool.clear();
    end_turn();
    server.peers.clear();
    server.stop_listening();
    CHECK(loop.loop.close().has_value());
  }
  HttpScene(const HttpScene&) = delete;
  HttpScene& operator=(const HttpScene&) = delete;

  // Anew, when a test has changed the configuration.
  void make_upstream() { upstream = upstreams::Upstream::create("up", config).value(); }

  void end_turn() {
    do {
      while (turn.has_woken()) turn.run_woken();
    } while (turn.bury());
  }
  // Time passes for deadlines, and for nothing else.
  void pass(std::uint64_t ms) {
    for (std::uint64_t passed = 0; passed < ms; passed += 500) wheel.advance(clock_ms += 500);
    end_turn();
  }

  upstreams::HttpRequest request(std::string method, http::BodyFraming body = {}) const {
    upstreams::HttpRequest result;
    result.method = std::move(method);
    result.target = "/x";
    result.headers = {{"Host", "example.org"}};
    result.body = body;
    return result;
  }
  // The exchange lives as long as the scene, unless the test ends it.
  upstreams::HttpExchange& start(upstreams::HttpRequest wanted, ExchangeOwner& owner) {
    owner.in_call = true;
    exchanges.push_back(std::make_unique<upstreams::HttpExchange>(context, pool, upstream,
                                                                  std::move(wanted), owner));
    owner.in_call = false;
    return *exchanges.back();
  }
  // A call to an exchange, inside of which its owner hears of nothing.
  template <typename Call>
  static void quietly(ExchangeOwner& owner, Call call) {
    owner.in_call = true;
    call();
    owner.in_call = false;
  }
  // Runs a whole request without a body. Says what its owner was told.
  std::string run(upstreams::HttpRequest wanted) {
    ExchangeOwner owner;
    start(std::move(wanted), owner);
    loop.run_until([&] { return owner.over; });
    exchanges.clear();
    return owner.log();
  }
  upstreams::Lease lease() const { return std::move(*upstream->pick({}, {})); }
  // Whether the pool has a connection. Takes it, and closes it.
  bool take_kept() {
    upstreams::Lease place = lease();
    auto idle = pool.take(upstream, place);
    if (!idle) return false;
    retire(turn, std::move(*idle));
    return true;
  }
  // In use or idle.
  std::uint64_t connections() const {
    return upstream->endpoints().front()->counters().active.get() + pool.size();
  }

  TestLoop loop;
  ScriptedUpstream server{loop.loop};
  TimerWheel wheel{0};
  std::uint64_t clock_ms = 0;
  net::IoBuffers buffers;
  Turn turn;
  metrics::WorkerCounters counters{1};
  ws::CompressionPool compression{64 * 1024 * 1024};
  WorkerContext context{loop.loop, wheel, buffers, turn, counters, compression};
  config::Upstream config;
  std::shared_ptr<upstreams::Upstream> upstream;
  upstreams::HttpPool pool{context};
  std::vector<std::unique_ptr<upstreams::HttpExchange>> exchanges;
};

inline http::BodyFraming length(std::uint64_t bytes) {
  return {http::BodyFraming::Kind::length, bytes};
}
inline http::BodyFraming chunked() {
  return {http::BodyFraming::Kind::chunked, 0};
}

// A response with a body and a length.
inline std::string ok(std::string_view body, std::string_view fields = {}) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(fields) + "\r\n" + std::string(body);
}

}  // namespace sluice::test
