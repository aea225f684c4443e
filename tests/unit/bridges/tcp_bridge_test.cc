#include "bridges/tcp_bridge.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/timer_wheel.h"
#include "base/turn.h"
#include "base/utf8.h"
#include "bridges/token_table.h"
#include "support/fake_websocket.h"
#include "support/files.h"
#include "support/stream.h"
#include "upstreams/registry.h"
#include "ws/close_code.h"

using namespace sluice;
using namespace sluice::bridges;
using namespace sluice::test;

namespace {

constexpr std::size_t megabyte = 1024 * 1024;

// A server of bytes that the test plays.
class Server {
 public:
  explicit Server(int backlog = 8) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(fd_, backlog) == 0);
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  explicit Server(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(fd_, 8) == 0);
    address_ = "unix:" + path;
  }
  ~Server() { close(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const std::string& address() const { return address_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  bool has_client() const {
    pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
    return ::poll(&waiting, 1, 0) == 1;
  }
  // The connection of a client that is there.
  std::unique_ptr<ClientEnd> accept() const {
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
    REQUIRE(fd >= 0);
    return std::make_unique<ClientEnd>(fd);
  }

 private:
  int fd_;
  std::string address_;
};

// A worker with one tcp route.
struct Scene {
  Scene()
      : context{loop.loop, wheel, buffers, turn, counters, compression},
        ticker(loop.loop, [this] { wheel.advance(loop.loop.now_ms()); }) {
    route.name = "tcp";
    route.timeouts.close_ms = 200;
    loop.at_turn_end = [this] { end_turn(); };
    ticker.start(20, 20);
  }
  ~Scene() { end_turn(); }  // the factory outlives its bridges
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  void end_turn() {
    while (!turn.idle()) {
      turn.run_woken();
      turn.bury();
    }
  }
  config::Upstream upstream_at(const std::string& address) {
    config::Upstream made;
    made.endpoints.push_back({address});
    made.connect_attempts = 1;
    return made;
  }
  Scene& to(const std::string& address) {
    target.upstream = "service";
    return with({{"service", upstream_at(address)}});
  }
  Scene& with(const std::map<std::string, config::Upstream>& upstreams) {
    REQUIRE(registry.load(upstreams).empty());
    route.target = target;
    const auto targets = TcpTargets::create(std::get<config::TcpTarget>(route.target), registry);
    REQUIRE_MESSAGE(targets.has_value(), targets.error().message);
    factory = std::make_unique<TcpBridgeFactory>(context, route, *targets, handshake_timeout_ms);
    return *this;
  }

  TestLoop loop;
  TimerWheel wheel{0};
  net::IoBuffers buffers;
  Turn turn;
  metrics::WorkerCounters counters{1};
  ws::CompressionPool compression{64 * 1024 * 1024};
  WorkerContext context;
  uv::Timer ticker;
  config::TcpTarget target;
  config::Route route;
  upstreams::Registry registry;
  std::uint64_t handshake_timeout_ms = 10'000;
  std::unique_ptr<TcpBridgeFactory> factory;
};

// A client on its way through the scene.
struct Client final : private Bridge::Keeper {
  explicit Client(Scene& in) : scene(in), bridge(in.factory->create(socket)) {
    REQUIRE(bridge->streams());
  }

  Client& begin() {
    bridge->on_open(request);
    return *this;
  }
  // Until the bridge has accepted; the upstream's end of the connection.
  std::unique_ptr<ClientEnd> open(const Server& server) {
    begin();
    scene.loop.run_until([&] { return socket.accepted || socket.rejected; });
    REQUIRE(socket.state == ReadyState::open);
    return server.accept();
  }
  // Until it was refused: "404 unknown token".
  std::string refusal() {
    begin();
    scene.loop.run_until([&] { return socket.accepted || socket.rejected; });
    REQUIRE(socket.rejected_response);
    return std::to_string(socket.rejected_response->status) + " " +
           std::string(metrics::label(*socket.rejected_result)) + ": " + socket.rejected->reason;
  }

  void send(std::string_view bytes, MessageType type = MessageType::binary) {
    bridge->on_piece({.type = type,
                      .message_start = true,
                      .frame_start = true,
                      .frame_end = true,
                      .fin = true,
                      .compressed = false,
                      .frame_payload_bytes = bytes.size(),
                      .payload = as_bytes(bytes)});
  }
  // Everything that it was sent, as one stream.
  std::string received() const {
    std::string all;
    for (const auto& message : socket.sent) all += message.payload;
    return all;
  }
  std::size_t received_bytes() const {
    std::size_t size = 0;
    for (const auto& message : socket.sent) size += message.payload.size();
    return size;
  }
  void receive(std::size_t size) {
    scene.loop.run_until([&] { return received_bytes() >= size; });
  }
  // As the gateway does it at the end of the client.
  void close(const CloseEvent& event = {1000, {}, true, metrics::Initiator::client}) {
    socket.state = ReadyState::closed;
    bridge->on_close(event);
    outlived = bridge->outlives_socket();
    if (outlived) {
      bridge->set_keeper(*this);
    } else {
      scene.turn.retire(std::move(bridge));
    }
  }
  void await_done() {
    scene.loop.run_until([&] { return bridge == nullptr; });
  }

  Scene& scene;
  FakeRequest request;
  FakeWebSocket socket;
  std::unique_ptr<Bridge> bridge;
  bool outlived = false;

 private:
  void on_bridge_done(Bridge& done) override {
    REQUIRE(&done == bridge.get());
    scene.turn.retire(std::move(bridge));
  }
};

// Until `size` bytes of what the bridge has sent were read, with the loop running in between.
std::string read_while_running(Scene& scene, ClientEnd& upstream, std::size_t size) {
  std::string all;
  std::string piece(64 * 1024, '\0');
  scene.loop.run_until([&] {
    ssize_t count = 1;
    while (all.size() < size && count > 0) {
      count = ::recv(upstream.fd(), piece.data(), std::min(piece.size(), size - all.size()),
                     MSG_DONTWAIT);
      if (count > 0) all.append(piece, 0, static_cast<std::size_t>(count));
    }
    return all.size() == size || count == 0;
  });
  return all;
}

bool has_ended(ClientEnd& upstream) {
  char byte = 0;
  return ::recv(upstream.fd(), &byte, 1, MSG_DONTWAIT) == 0;
}

}  // namespace

// ---- The opening handshake

TEST_CASE("tcp bridge: the upstream is connected before the client is accepted") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  client.begin();
  CHECK(client.socket.state == ReadyState::connecting);
  CHECK_FALSE(server.has_client());
  scene.loop.run_until([&] { return client.socket.accepted.has_value(); });
  CHECK(server.has_client());
  CHECK(client.socket.named == "service " + server.address());
}

TEST_CASE("tcp bridge: bytes go both ways, over TCP and over a unix socket") {
  char folder[] = "/tmp/sluice-tcp-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  {
    const Server tcp;
    const Server unix_server(std::string(folder) + "/socket");
    for (const Server* server : {&tcp, &unix_server}) {
      Scene scene;
      scene.to(server->address());
      Client client(scene);
      const auto upstream = client.open(*server);
      client.send("to the ");
      client.send("upstream");
      CHECK(read_while_running(scene, *upstream, 15) == "to the upstream");
      upstream->send(std::string("and\0back", 8));
      client.receive(8);
      CHECK(client.socket.sent ==
            std::vector<FakeWebSocket::Sent>{{MessageType::binary, std::string("and\0back", 8)}});
    }
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("tcp bridge: an upstream that refuses is a 502 before the 101") {
  Server server;
  Scene scene;
  scene.to(server.address());
  server.close();
  Client client(scene);
  CHECK(client.refusal().starts_with("502 upstream_failed: " + server.address()));
  CHECK(client.socket.named == "service ");
  CHECK(client.socket.rejected_response->body.find("127.0.0.1") == std::string::npos);
  client.close({1006, {}, false});
  CHECK_FALSE(client.outlived);
}

TEST_CASE("tcp bridge: an upstream that does not answer is a 504") {
  const Server server(0);
  // A full backlog: the kernel answers nobody any more.
  std::vector<std::unique_ptr<ClientEnd>> waiting;
  for (int i = 0; i < 3; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const auto address = net::Address::parse(server.address());
    (void)::connect(fd, address->raw(), address->raw_size());
    waiting.push_back(std::make_unique<ClientEnd>(fd));
  }
  SUBCASE("within connect_timeout") {
    Scene scene;
    auto upstream = scene.upstream_at(server.address());
    upstream.connect_timeout_ms = 200;
    scene.target.upstream = "service";
    scene.with({{"service", upstream}});
    CHECK(Client(scene).refusal().starts_with("504 upstream_timeout: " + server.address()));
  }
  SUBCASE("within the handshake's own timeout") {
    Scene scene;
    scene.handshake_timeout_ms = 400;
    auto upstream = scene.upstream_at(server.address());
    upstream.connect_timeout_ms = 60'000;
    scene.target.upstream = "service";
    scene.with({{"service", upstream}});
    CHECK(Client(scene).refusal().starts_with("504 upstream_timeout: " + server.address()));
  }
}

TEST_CASE("tcp bridge: an upstream without room is a 503") {
  const Server server;
  Scene scene;
  auto upstream = scene.upstream_at(server.address());
  upstream.connections_max = 1;
  scene.target.upstream = "service";
  scene.with({{"service", upstream}});
  Client first(scene);
  const auto end = first.open(server);
  CHECK(Client(scene).refusal().starts_with("503 upstream_failed: service"));

  end->close();
  scene.loop.run_until([&] { return first.socket.ending.has_value(); });
  first.close();
  Client second(scene);
  scene.loop.run_until([&] { return true; });
  second.open(server);
}

TEST_CASE("tcp bridge: a client that leaves in the midst of the handshake") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  SUBCASE("before the dial has begun") {
    client.begin();
  }
  SUBCASE("while it dials") {
    client.begin();
    scene.turn.run_woken();
  }
  client.close({1006, {}, false});
  CHECK_FALSE(client.outlived);
  scene.loop.run_for(20);
  CHECK_FALSE(client.socket.accepted);
}

TEST_CASE("tcp bridge: a client that leaves in the turn in which its dial fails") {
  Scene scene;
  auto upstream = scene.upstream_at("127.0.0.1:1");
  upstream.endpoints.front().weight = 0;
  scene.target.upstream = "service";
  scene.with({{"service", upstream}});
  Client client(scene);
  client.begin();
  client.close({1006, {}, false});
  scene.loop.run_for(20);
  CHECK_FALSE(client.socket.rejected);
}

TEST_CASE("tcp bridge: the PROXY protocol goes before everything else") {
  const Server server;
  Scene scene;
  scene.target.proxy_protocol = config::ProxyProtocol::v1;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  client.send("first");
  // The client of these tests has no address.
  CHECK(read_while_running(scene, *upstream, 20) == "PROXY UNKNOWN\r\nfirst");
}

// ---- Tokens

TEST_CASE("tcp bridge: a token names the upstream, from the path or from the query") {
  const Server one;
  const Server two;
  Scene scene;
  scene.target.tokens = {{"a b", "one"}, {"ü", "two"}};
  scene.with(
      {{"one", scene.upstream_at(one.address())}, {"two", scene.upstream_at(two.address())}});
  const auto reaches = [&](const Server& server, const std::string& path,
                           const std::string& query) {
    Client client(scene);
    if (!path.empty()) client.request.parameters_["token"] = path;
    client.request.query_ = query;
    client.open(server);
    client.close();
  };
  reaches(one, "a b", "");
  reaches(one, "a b", "token=%C3%BC");
  reaches(one, "", "token=a+b");
  reaches(one, "", "token=a%20b");
  reaches(one, "", "token=a+b%0A");
  reaches(two, "", "x=1&token=%C3%BC&token=a+b");
  reaches(two, "", "&nottoken=a+b&token=%c3%bc");
}

TEST_CASE("tcp bridge: an unknown token is a 404, and nobody hears of the token") {
  const Server server;
  Scene scene;
  scene.target.tokens = {{"known", "one"}};
  scene.with({{"one", scene.upstream_at(server.address())}});
  for (const char* query :
       {"", "token=secret", "token=", "token", "token=known2", "xtoken=known", "Token=known"}) {
    Client client(scene);
    client.request.query_ = query;
    CHECK(client.refusal() == "404 no_route: unknown token");
    CHECK(client.socket.rejected_response->body.find("secret") == std::string::npos);
  }
  CHECK_FALSE(server.has_client());
}

// ---- Types

TEST_CASE("tcp bridge: a text frame for a route of bytes is refused with 1003") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  client.send("before");
  client.send("text", MessageType::text);
  client.send("after");
  REQUIRE(client.socket.ending);
  CHECK(client.socket.ending->code == 1003);
  CHECK(client.socket.ending->initiator == metrics::Initiator::gateway);
  CHECK(client.socket.ending->reason == metrics::CloseReason::unsupported_data);
  CHECK(read_while_running(scene, *upstream, 100) == "before");  // and then its end
  upstream->send("too late");
  upstream->close();
  client.close();
  scene.loop.run_for(20);
  CHECK(client.received().empty());
}

TEST_CASE("tcp bridge: a binary frame for a route of text is refused with 1003") {
  const Server server;
  Scene scene;
  scene.target.frames = config::TcpTarget::Frames::text;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  client.send("before", MessageType::text);
  client.send("bytes", MessageType::binary);
  REQUIRE(client.socket.ending);
  CHECK(client.socket.ending->code == 1003);
  CHECK(read_while_running(scene, *upstream, 100) == "before");
}

TEST_CASE("tcp bridge: text is never cut inside of a character") {
  const Server server;
  Scene scene;
  scene.target.frames = config::TcpTarget::Frames::text;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  const std::string text = "aé你🌊";
  std::size_t messages = 0;
  for (const char c : text) {
    upstream->send(std::string(1, c));
    // Every byte is read before the next is sent.
    scene.loop.run_until([&] {
      int unread = 0;
      ::ioctl(upstream->fd(), TIOCOUTQ, &unread);
      return unread == 0;
    });
    scene.loop.run_for(5);
    messages = client.socket.sent.size() + client.socket.frames.size();
  }
  CHECK(messages == 4);
  CHECK(client.socket.sent == std::vector<FakeWebSocket::Sent>{{MessageType::text, "a"}});
  CHECK(client.socket.frames ==
        std::vector<FakeWebSocket::Frame>{{MessageType::text, true, true, "é"},
                                          {MessageType::text, true, true, "你"},
                                          {MessageType::text, true, true, "🌊"}});
  CHECK_FALSE(client.socket.ending);
}

TEST_CASE("tcp bridge: text that is none is the upstream's fault: 1014") {
  const Server server;
  Scene scene;
  scene.target.frames = config::TcpTarget::Frames::text;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  SUBCASE("in the midst of it") {
    upstream->send("\xFF");
  }
  SUBCASE("at its end") {
    upstream->send("ok\xE4\xBD");
    upstream->shutdown();
  }
  scene.loop.run_until([&] { return client.socket.ending.has_value(); });
  CHECK(client.socket.ending->code == 1014);
  CHECK(client.socket.ending->initiator == metrics::Initiator::upstream);
  CHECK(client.socket.ending->reason == metrics::CloseReason::upstream_failed);
}

// ---- Back-pressure

TEST_CASE("tcp bridge: while the upstream does not read, the client is paused") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  const std::string all = numbered(32 * megabyte);
  std::size_t sent = 0;
  while (!client.socket.paused && sent < all.size()) {
    // The client may be read several times in a turn: the pause is not to wait for its end.
    for (int reads = 0; reads < 4 && !client.socket.paused; ++reads) {
      const std::string piece = all.substr(sent, 64 * 1024);
      client.send(piece);
      sent += piece.size();
    }
    scene.loop.run_until([&] { return true; });
  }
  REQUIRE(client.socket.paused);
  CHECK(sent < all.size());
  CHECK(client.socket.upstream_buffered > scene.route.buffers.high_watermark_bytes);
  CHECK(client.socket.upstream_buffered <= scene.route.buffers.high_watermark_bytes + 64 * 1024);

  std::string read = read_while_running(scene, *upstream, sent);
  scene.loop.run_until([&] { return !client.socket.paused; });
  CHECK(client.socket.upstream_buffered <= scene.route.buffers.low_watermark_bytes);
  // The rest, in turns of what a loop reads at once.
  while (sent < all.size()) {
    if (!client.socket.paused) {
      const std::string piece = all.substr(sent, 64 * 1024);
      client.send(piece);
      sent += piece.size();
    }
    const std::size_t more = client.socket.paused ? megabyte / 4 : 0;
    if (more > 0) read += read_while_running(scene, *upstream, std::min(more, sent - read.size()));
    scene.loop.run_until([&] { return true; });
  }
  read += read_while_running(scene, *upstream, all.size() - read.size());
  CHECK((read == all));
}

TEST_CASE("tcp bridge: the client is resumed at the low watermark, not before") {
  const Server server;
  Scene scene;
  scene.route.buffers.high_watermark_bytes = 16 * megabyte;  // far above what the kernel takes
  scene.route.buffers.low_watermark_bytes = megabyte;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  while (!client.socket.paused) {
    client.send(numbered(megabyte));
    scene.loop.run_until([&] { return true; });
  }
  while (client.socket.paused) {
    read_while_running(scene, *upstream, 64 * 1024);
    scene.loop.run_until([&] { return true; });
  }
  CHECK(client.socket.upstream_buffered <= megabyte);
}

TEST_CASE("tcp bridge: while the client does not keep up, the upstream is not read") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  const std::string all = numbered(16 * megabyte);
  std::thread writer([&] { upstream->send(all); });
  client.socket.buffered = scene.route.buffers.high_watermark_bytes + 1;
  client.receive(1);
  const std::size_t held = client.received_bytes();
  CHECK(held <= net::IoBuffers::receive_bytes);
  scene.loop.run_for(50);
  CHECK(client.received_bytes() == held);

  client.socket.buffered = 0;
  client.bridge->on_drain();
  client.receive(all.size());
  writer.join();
  CHECK((client.received() == all));
}

// ---- Ends

TEST_CASE("tcp bridge: after the upstream's end everything is there, then comes 1000") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  const std::string all = numbered(megabyte);
  std::thread writer([&] {
    upstream->send(all);
    upstream->shutdown();
  });
  scene.loop.run_until([&] { return client.socket.ending.has_value(); });
  writer.join();
  CHECK((client.received() == all));
  CHECK(client.socket.ending->code == 1000);
  CHECK(client.socket.ending->text.empty());
  CHECK(client.socket.ending->initiator == metrics::Initiator::upstream);
  CHECK(client.socket.ending->reason == metrics::CloseReason::normal);

  // The other direction is still open.
  client.send("sent before the Close frame came");
  CHECK(read_while_running(scene, *upstream, 32) == "sent before the Close frame came");
  CHECK_FALSE(has_ended(*upstream));
  client.send("last words");
  client.close();
  CHECK(read_while_running(scene, *upstream, 100) == "last words");
}

TEST_CASE("tcp bridge: an upstream that ended inside of a character holds no client up either") {
  const Server server;
  Scene scene;
  scene.target.frames = config::TcpTarget::Frames::text;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  while (!client.socket.paused) {
    client.send(std::string(64 * 1024, 'x'), MessageType::text);
    scene.loop.run_until([&] { return true; });
  }
  upstream->send("\xc3");
  upstream->shutdown();
  scene.loop.run_until([&] { return client.socket.ending.has_value(); });
  CHECK(client.socket.ending->code == 1014);
  scene.loop.run_until([&] { return !client.socket.paused; });
}

TEST_CASE("tcp bridge: an upstream that ended and does not read holds no client up") {
  const Server server;
  Scene scene;
  scene.route.timeouts.close_ms = 600;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  upstream->shutdown();
  scene.loop.run_until([&] { return client.socket.ending.has_value(); });
  while (!client.socket.paused) {
    client.send(numbered(64 * 1024));
    scene.loop.run_until([&] { return true; });
  }
  // As long as it reads, however slowly, it is given time.
  for (int i = 0; i < 4; ++i) {
    read_while_running(scene, *upstream, 32 * 1024);
    scene.loop.run_for(300);
    CHECK(client.socket.paused);
  }
  scene.loop.run_until([&] { return !client.socket.paused; });
  client.send("to nobody");
  client.close();
  CHECK_FALSE(client.outlived);
  upstream->read(16 * megabyte);
  CHECK(upstream->error == ECONNRESET);
}

TEST_CASE("tcp bridge: a client that closes while the upstream is not read") {
  const Server server;
  Scene scene;
  scene.route.timeouts.close_ms = 1'000'000;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  const std::string all = numbered(16 * megabyte);
  std::thread writer([&] {
    upstream->send(all);
    upstream->shutdown();
  });
  client.socket.buffered = scene.route.buffers.high_watermark_bytes + 1;
  client.receive(1);
  client.close();
  CHECK(client.outlived);
  client.await_done();  // what it still sends is read and dropped
  writer.join();
}

TEST_CASE("tcp bridge: a reset of the upstream is 1014, never 1000") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  upstream->send("before");
  client.receive(6);
  upstream->reset();
  scene.loop.run_until([&] { return client.socket.ending.has_value(); });
  CHECK(client.socket.ending->code == 1014);
  CHECK(client.socket.ending->initiator == metrics::Initiator::upstream);
  CHECK(client.socket.ending->reason == metrics::CloseReason::upstream_failed);
  CHECK(client.socket.ending->detail.starts_with(server.address() + ": "));
  client.send("to nobody");
  scene.loop.run_for(10);
  const auto service = scene.registry.find("service");
  CHECK(service->endpoints().front()->counters().active.get() == 0);
  client.close();
  CHECK_FALSE(client.outlived);
}

TEST_CASE("tcp bridge: a client that is paused hears of the upstream's end") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  while (!client.socket.paused) {
    client.send(numbered(64 * 1024));
    scene.loop.run_until([&] { return true; });
  }
  upstream->reset();
  scene.loop.run_until([&] { return client.socket.ending.has_value(); });
  CHECK(client.socket.ending->code == 1014);
  scene.loop.run_until([&] { return !client.socket.paused; });
  CHECK(client.socket.upstream_buffered == 0);
}

TEST_CASE("tcp bridge: what a client sent before it closed is delivered, then comes FIN") {
  for (const bool clean : {true, false}) {
    const Server server;
    Scene scene;
    scene.route.timeouts.close_ms = 600;
    scene.to(server.address());
    Client client(scene);
    const auto upstream = client.open(server);
    const std::string all = numbered(16 * megabyte);  // far more than the kernel takes
    client.send(all);
    if (clean) {
      client.close();
    } else {
      client.close({1006, {}, false, metrics::Initiator::network});
    }
    CHECK(client.outlived);
    upstream->send("nobody reads this");
    // Slower than timeouts.close: what matters is that it goes on.
    std::string read;
    for (int i = 0; i < 4; ++i) {
      read += read_while_running(scene, *upstream, 4 * megabyte - (i == 3 ? 0 : 1));
      scene.loop.run_for(300);
      CHECK(client.bridge != nullptr);
    }
    read += read_while_running(scene, *upstream, all.size());  // to the end of the stream
    CHECK((read == all));
    upstream->close();
    client.await_done();
    CHECK(client.received().empty());
  }
}

TEST_CASE("tcp bridge: without a client it waits for the upstream no longer than timeouts.close") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  SUBCASE("for its end") {
    client.send("all");
    client.close();
    CHECK(client.outlived);
    CHECK(read_while_running(scene, *upstream, 100) == "all");
    client.await_done();
    CHECK(upstream->read(1).empty());
    CHECK(upstream->error == 0);
  }
  SUBCASE("for its end, when there was nothing to be said") {
    client.close();
    CHECK(client.outlived);
    client.await_done();
    CHECK(upstream->read(1).empty());
  }
  SUBCASE("to read: what it did not take is broken off, not ended") {
    client.send(numbered(16 * megabyte));
    client.close();
    CHECK(client.outlived);
    client.await_done();
    CHECK(upstream->read(16 * megabyte).size() < 16 * megabyte);
    CHECK(upstream->error == ECONNRESET);
  }
}

TEST_CASE("tcp bridge: an upstream that breaks without a client ends the bridge") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  client.send(numbered(16 * megabyte));
  client.close();
  CHECK(client.outlived);
  upstream->reset();
  client.await_done();
}

TEST_CASE("tcp bridge: cut() drops what is left at once") {
  const Server server;
  Scene scene;
  scene.route.timeouts.close_ms = 1'000'000;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  client.send(numbered(16 * megabyte));
  client.close();
  CHECK(client.outlived);
  client.bridge->cut();
  client.await_done();
}

TEST_CASE("tcp bridge: the upstream's connection is counted until it ends") {
  const Server server;
  Scene scene;
  scene.to(server.address());
  Client client(scene);
  const auto upstream = client.open(server);
  const auto service = scene.registry.find("service");
  const auto& active = service->endpoints().front()->counters().active;
  CHECK(active.get() == 1);
  upstream->shutdown();
  scene.loop.run_until([&] { return client.socket.ending.has_value(); });
  CHECK(active.get() == 1);
  client.close();
  client.await_done();
  CHECK(active.get() == 0);
}

// ---- on_endpoint_down

TEST_CASE("tcp bridge: on_endpoint_down: close ends its sockets, from whatever thread it comes") {
  const Server server;
  for (const auto wish : {config::OnEndpointDown::close, config::OnEndpointDown::keep}) {
    Scene scene;
    auto upstream = scene.upstream_at(server.address());
    upstream.on_endpoint_down = wish;
    upstream.health_check.emplace();
    upstream.health_check->unhealthy_threshold = 1;
    scene.target.tokens = {{"t", "service"}, {"u", "service"}};
    scene.with({{"service", upstream}});
    Client client(scene);
    client.request.query_ = "token=t";
    const auto end = client.open(server);
    const auto service = scene.registry.find("service");
    std::thread([&] {
      service->report_check(*service->endpoints().front(), true);
      service->report_check(*service->endpoints().front(), true);
      service->report_check(*service->endpoints().front(), false);
    }).join();
    if (wish == config::OnEndpointDown::keep) {
      scene.loop.run_for(20);
      CHECK_FALSE(client.socket.ending);
      continue;
    }
    scene.loop.run_until([&] { return client.socket.ending.has_value(); });
    CHECK(client.socket.ending->code == 1014);
    CHECK(client.socket.ending->detail.find("on_endpoint_down") != std::string::npos);
    CHECK(read_while_running(scene, *end, 1).empty());  // its end
    client.close();
    end->close();
    if (client.outlived) client.await_done();
    // One that comes late finds nobody.
    service->report_check(*service->endpoints().front(), true);
    service->report_check(*service->endpoints().front(), true);
    service->report_check(*service->endpoints().front(), false);
    scene.factory.reset();
    scene.loop.run_for(5);
  }
}
