// The gateway over transports in memory: a worker with its connections, sessions and relays, real
// but for the sockets below and for what stands behind the routes.
//
// The input is a script. Its first three bytes set the routes' rules; then each step is a byte that
// says who does what (see Script::step): clients send requests, frames or anything, read or do not,
// end or reset; bridges and relays do what they may at any time; the clock goes on; the loop turns.
//
// What must hold is told by the actors (actors.h) and the wire (memory_transport.h), and besides:
// every client gets responses and frames that are whole and in order, and nothing behind a Close;
// when all clients have gone, all that the gateway held for them is gone too, and the counters
// agree with what happened.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fuzz/actors.h"
#include "fuzz/input.h"
#include "fuzz/memory_transport.h"
#include "http/body.h"
#include "http/fields.h"
#include "http/handler.h"
#include "http/response_parser.h"
#include "worker.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;

constexpr std::size_t clients_max = 4;
constexpr std::size_t steps_max = 400;  // an input is to take a millisecond, not a second
constexpr std::size_t gathered_bytes = 64 * 1024;  // in one turn, before the kernel is asked
constexpr std::size_t small_bytes = 1024;          // control frames, headers

// ---- What a client gets

// RFC 6455 5.2 to 5.5, as far as a server's frames go. `deflates`: permessage-deflate was agreed
// on.
class FrameReader {
 public:
  explicit FrameReader(bool deflates) : deflates_(deflates) {}

  void read(std::string_view bytes) {
    while (!bytes.empty()) {
      require(!closed_, "RFC 6455 5.5.1: nothing follows a Close frame");
      if (!read_frame(bytes)) return;  // the end is cut off
    }
  }

 private:
  static unsigned byte(std::string_view bytes, std::size_t at) {
    return static_cast<unsigned char>(bytes[at]);
  }
  bool read_frame(std::string_view& bytes) {
    if (bytes.size() < 2) return false;
    const unsigned opcode = byte(bytes, 0) & 0xFU;
    const bool fin = (byte(bytes, 0) & 0x80U) != 0;
    const bool compressed = (byte(bytes, 0) & 0x40U) != 0;
    require((byte(bytes, 0) & 0x30U) == 0 && byte(bytes, 1) < 0x80, "no RSV bit and no mask");
    require(!compressed || (deflates_ && (opcode == 1 || opcode == 2)),
            "RFC 7692 6: RSV1 is at the beginning of a message, and agreed on");
    std::uint64_t size = byte(bytes, 1);
    const std::size_t extended = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (bytes.size() < 2 + extended) return false;
    for (std::size_t i = 0; i < extended; ++i) size = (i == 0 ? 0 : size << 8) | byte(bytes, 2 + i);
    require(extended == 0 || size > (extended == 2 ? 125U : 0xFFFFU), "the shortest size");
    check_order(opcode, fin, size);
    if (bytes.size() < 2 + extended + size) return false;
    bytes.remove_prefix(2 + extended + size);
    return true;
  }
  void check_order(unsigned opcode, bool fin, std::uint64_t size) {
    if (opcode >= 8) {
      require(opcode <= 10 && fin && size <= 125, "a control frame is whole and short");
      closed_ = opcode == 8;
      return;
    }
    require(opcode <= 2 && (opcode == 0) == in_message_, "messages do not mix");
    in_message_ = !fin;
  }

  const bool deflates_;
  bool in_message_ = false;
  bool closed_ = false;
};

// Takes one response off the front; false if it is cut off, or was the last.
bool read_response(std::string_view& rest) {
  http::ResponseParser parser({100, 64 * 1024});
  parser.expect("GET");
  std::size_t consumed = 0;
  const auto status = parser.feed(as_bytes(rest), consumed);
  require(status != http::ResponseParser::Status::error, "a response can be read");
  if (status != http::ResponseParser::Status::complete) return false;
  rest.remove_prefix(consumed);
  if (parser.head().status == 101) {
    FrameReader(http::find_field(parser.head().headers, "sec-websocket-extensions").has_value())
        .read(rest);
    return false;
  }
  http::BodyReader reader(parser.head().framing);
  Bytes body = as_bytes(rest);
  while (!body.empty() && !reader.ended()) {
    require(reader.read(body).error == nullptr, "a response's body can be read");
  }
  rest = as_text(body);
  return true;
}

struct Client {
  Wire wire;
  bool garbled = false;  // it sent what may have been a request of any method

  void check() const {
    if (garbled) return;
    std::string_view rest = wire.from_gateway;
    while (!rest.empty() && read_response(rest)) continue;
  }
};

// What a client may say with RSV1: RFC 7692 7.2.3.1, 7.2.3.2 (which refers to the first), nothing,
// and 5,000 letters, which are more than a message may have.
constexpr std::string_view deflated[] = {
    {"\xf2\x48\xcd\xc9\xc9\x07\x00", 7},
    {"\xf2\x00\x11\x00\x00", 5},
    {"\x00", 1},
    {"\xec\xc1\x31\x01\x00\x00\x00\xc2\xa0\xda\x8b\x6f\x0a\x3f\xa0\x00\x00\x00\x00\x80\xb7\x01",
     22},
};

std::string masked_frame(unsigned first, std::string_view payload) {
  std::string frame(1, static_cast<char>(first));
  frame += static_cast<char>(0x80U | payload.size());
  frame.append(4, '\0');  // a mask that changes nothing
  return frame.append(payload);
}
std::string masked_frame(unsigned first, std::size_t size) {
  std::string frame(1, static_cast<char>(first));
  if (size <= 125) {
    frame += static_cast<char>(0x80U | size);
  } else {
    frame += static_cast<char>(0xFE);
    frame += static_cast<char>(size >> 8);
    frame += static_cast<char>(size & 0xFFU);
  }
  frame.append(4, '\0');  // a mask that changes nothing
  return frame + std::string(size, 'x');
}

// ---- The house

// A short text, or a file that is more than may wait for a client.
class Pages final : public http::Handler {
 public:
  http::StaticFiles::Reply respond(const http::Request& request, std::string_view) const override {
    http::StaticFiles::Reply reply;
    if (request.method == "POST") {
      const int fd = ::memfd_create("page", MFD_CLOEXEC);
      require(::ftruncate(fd, file_bytes) == 0, "a file");
      reply.body.emplace(fd);
      reply.body->select(0, std::uint64_t{file_bytes});
      reply.head.content_length = std::uint64_t{file_bytes};
    } else {
      reply.head.body = "page";
    }
    return reply;
  }

 private:
  static constexpr off_t file_bytes = 300'000;
};

config::Route rules(Input& input, const std::string& path) {
  const unsigned bits = input.byte();
  config::Route route;
  route.name = route.path = path;
  route.allowed_origins = {"*"};
  route.subprotocols = {"chat"};
  route.slow_consumer = static_cast<config::SlowConsumer>(bits % 4);
  route.buffers = {.high_watermark_bytes = 2000,
                   .low_watermark_bytes = 500,
                   .high_watermark_timeout_ms = 3000,
                   .limit_bytes = 8000};
  route.limits.message_bytes_max = 4000;
  route.limits.fragments_max = 8;
  route.keepalive.ping_interval_ms = (bits & 4U) != 0 ? 2000 : 0;
  route.keepalive.pong_timeout_ms = 1000;
  if ((bits & 8U) != 0) route.timeouts.idle_ms = 5000;
  if ((bits & 16U) != 0) route.limits.messages_per_second = 20;
  if ((bits & 32U) != 0) route.limits.bytes_per_second = 5000;
  if ((bits & 64U) != 0) route.limits.connections_max = 1;
  if ((bits & 128U) != 0) {
    using Mode = config::Compression::Mode;
    route.compression.mode = (bits & 2U) != 0 ? Mode::dedicated : Mode::shared;
    route.compression.min_bytes = 20;
    route.compression.window_bits = 9;
  }
  route.limits.control_frames_per_second = 10;
  return route;
}

class House {
 public:
  explicit House(Input& input) : cast(input) {
    config.routes = {rules(input, "/messages"), rules(input, "/pieces"), {}};
    config.routes[1].target = config::HttpTarget{};
    config.routes[2].name = config.routes[2].path = "/pages/*";
    config.log.access = false;
    cast.size_max = config.routes[0].limits.message_bytes_max;
    cast.bytes_max = gathered_bytes + 2 * cast.size_max + small_bytes;
    shared.connections_max = 3 + input.byte() % 2;
    worker = std::make_unique<Worker>(0, loop(), config, shared, counters);
    for (const std::uint32_t index : {0U, 1U}) add_route(index);
    auto route = std::make_unique<ServedRoute>(config.routes[2], 2);
    route->http = std::make_shared<Pages>();
    worker->routes().add(std::move(route));
  }
  ~House() {
    worker.reset();
    loop().turn();  // handles close in a turn
    require(cast.relays.empty() && cast.bridges.empty(), "nobody is left behind the routes");
  }
  House(const House&) = delete;
  House& operator=(const House&) = delete;

  Client* connect() {
    if (clients.size() == clients_max) return nullptr;
    Client& client = clients.emplace_back();
    worker->add(std::make_unique<MemoryTransport>(worker->buffers().pool, client.wire),
                net::Endpoint());
    return &client;
  }
  void turn(std::size_t bytes_max) {
    for (Client& client : clients) {
      if (client.wire.transport != nullptr) client.wire.transport->turn(bytes_max);
    }
    loop().turn();
    for (FuzzBridge* bridge : cast.bridges) bridge->look();
  }
  void wait(std::uint64_t ms) {
    clock_ms += ms;
    worker->wheel().advance(clock_ms);
    turn(1);
  }
  bool empty() const {
    const bool alone = std::ranges::all_of(
        clients, [](const Client& client) { return client.wire.transport == nullptr; });
    return alone && shared.connections.load() == 0 && cast.bridges.empty() && cast.relays.empty();
  }

  // What is left is let go, and has to end.
  void end(bool politely) {
    cast.silent = true;
    if (politely) {
      for (Client& client : clients) client.wire.reset = true;
    } else {
      worker->drain(1'000'000, [] {});
      worker->cut();
    }
    for (int seconds = 0; seconds < 200 && !empty(); ++seconds) {
      // A client that has sent more than is held of it is not read: that it has gone shows when it
      // is written to.
      const bool give_up = seconds > 100;
      for (FuzzRelay* relay : std::vector(cast.relays)) relay->let_go(give_up);
      for (FuzzBridge* bridge : std::vector(cast.bridges)) bridge->let_go();
      wait(1000);
    }
    require(empty(), "everything ends when its client has gone");
    check();
  }

  static uv::Loop& loop() {
    static uv::Loop one;
    return one;
  }

  Cast cast;
  config::Config config;
  Shared shared;
  metrics::WorkerCounters counters{3};
  std::atomic<std::uint32_t> open[2] = {};
  std::deque<Client> clients;  // whose wires stay where they are
  std::unique_ptr<Worker> worker;
  std::uint64_t clock_ms = loop().now_ms();

 private:
  void add_route(std::uint32_t index) {
    auto route = std::make_unique<ServedRoute>(config.routes[index], index);
    route->bridges = std::make_unique<FuzzBridges>(cast, index == 1);
    route->relays = std::make_unique<FuzzRelays>(cast);
    route->open = &open[index];
    route->session.protocol.compression.pool = &worker->context().compression;
    worker->routes().add(std::move(route));
  }
  void check() const {
    require(cast.bridges_made == cast.bridges_closed, "every bridge has heard on_close");
    require(open[0] == 0 && open[1] == 0, "no place on a route is taken");
    require(worker->wheel().size() == 0, "no deadline is left");
    counters.connections.for_each(
        [](const metrics::ConnectionSlot&) { require(false, "no slot is taken"); });
    for (const metrics::RouteCounters& route : counters.routes) check(route);
    for (const Client& client : clients) {
      require(client.wire.transport == nullptr, "no transport is left");
      client.check();
    }
  }
  static void check(const metrics::RouteCounters& route) {
    std::uint64_t closed = 0;
    for (const auto& reasons : route.connections_closed) {
      for (const metrics::Number& count : reasons) closed += count.get();
    }
    require(route.connections_opened.get() == closed, "what was opened was closed, for a reason");
    require(route.pauses.get() == route.resumes.get(), "what was over the watermark came under it");
    require(route.read_pauses.get() == route.read_resumes.get(), "what was paused was resumed");
  }
};

// ---- The script

class Script {
 public:
  explicit Script(Input& input) : input_(input), house_(input) {}

  void run() {
    client_ = house_.connect();
    for (std::size_t i = 0; i < steps_max && !input_.empty(); ++i) step(input_.byte());
    house_.end((last_ & 1U) != 0);
  }

 private:
  void step(unsigned what) {
    last_ = what;
    switch (what % 16) {
      case 0:
        return connect_or_choose(what >> 4);
      case 1:
        return upgrade(what >> 4);
      case 2:
        return request(what >> 4);
      case 3:
        return anything(what >> 4);
      case 4:
      case 5:
        return frame();
      case 6:
        return close();
      case 7:
        client_->wire.room = 0;
        return;
      case 8:
        client_->wire.room = (what >> 4) == 15 ? std::string::npos : input_.u16();
        return;
      case 9:
        return end(what >> 4);
      case 10:
        return house_.wait(100ULL << (what >> 4) % 5);
      case 11:
      case 12:
        return act_bridge();
      case 13:
        return act_relay();
      default:
        return house_.turn((what >> 4) == 0 ? 1 : 1U << (what >> 4));
    }
  }
  void connect_or_choose(unsigned which) {
    Client* made = which == 0 ? house_.connect() : nullptr;
    client_ = made != nullptr ? made : &house_.clients[which % house_.clients.size()];
  }
  void send(const std::string& bytes) {
    Wire& wire = client_->wire;
    if (!wire.fin && !wire.reset) wire.to_gateway += bytes;
  }
  void upgrade(unsigned variant) {
    send(std::string("GET ") + ((variant & 1U) != 0 ? "/pieces" : "/messages") +
         " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
         ((variant & 2U) != 0 ? "Sec-WebSocket-Protocol: chat, other\r\n" : "") +
         ((variant & 4U) != 0 ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "") + "\r\n");
  }
  void request(unsigned variant) {
    constexpr std::string_view paths[] = {"/messages", "/pieces", "/pages/x", "/nowhere"};
    std::string head = (variant & 4U) != 0 ? "POST " : "GET ";
    head += std::string(paths[variant % 4]) + " HTTP/1." + ((variant & 8U) != 0 ? "0" : "1");
    head += "\r\nHost: a\r\n";
    const std::size_t size = (variant & 4U) != 0 ? input_.byte() : 0;
    const bool chunked = (size & 1U) != 0 && (variant & 8U) == 0;
    if (chunked) {
      head += "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
      return send(head + "3\r\nabc\r\n" + ((size & 2U) != 0 ? "0\r\n\r\n" : ""));
    }
    if ((variant & 4U) != 0) head += "Content-Length: " + std::to_string(size) + "\r\n";
    send(head + "\r\n" + letters(input_.flag() ? size : size / 2));
  }
  void anything(unsigned size) {
    client_->garbled =
        client_->garbled || client_->wire.from_gateway.find(" 101 ") == std::string::npos;
    send(std::string(as_text(input_.take(size))));
  }
  void frame() {
    const unsigned first = input_.byte();
    constexpr unsigned opcodes[] = {0, 1, 2, 1, 2, 9, 10, 2};
    const std::size_t size = input_.byte() * ((first & 0x40U) != 0 ? 20U : 1U);
    const unsigned opcode = opcodes[first % 8];
    if ((first & 0x20U) != 0) {
      return send(masked_frame((first & 0x80U) | 0x40U | opcode, deflated[size % 4]));
    }
    send(masked_frame((first & 0x80U) | opcode, opcode >= 8 ? size % 126 : size));
  }
  void close() {
    const unsigned code = input_.u16();
    std::string bytes = masked_frame(0x88, input_.byte() % 126);
    if (bytes.size() >= 8) bytes[6] = static_cast<char>(code >> 8);
    if (bytes.size() >= 8) bytes[7] = static_cast<char>(code & 0xFFU);
    send(bytes);
  }
  void end(unsigned how) {
    (how % 2 == 0 ? client_->wire.fin : client_->wire.reset) = true;
    if (how == 15 && !std::exchange(drained_, true)) house_.worker->drain(1'000'000, [] {});
  }
  void act_bridge() {
    auto& bridges = house_.cast.bridges;
    if (!bridges.empty()) bridges[input_.byte() % bridges.size()]->act();
  }
  void act_relay() {
    auto& relays = house_.cast.relays;
    if (!relays.empty()) relays[input_.byte() % relays.size()]->act();
  }

  Input& input_;
  House house_;
  Client* client_ = nullptr;  // who acts
  unsigned last_ = 0;
  bool drained_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  Script(input).run();
  return 0;
}
