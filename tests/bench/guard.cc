// The operations that script/bench --guard counts the instructions of.
//
//   bench_guard              prints the names
//   bench_guard NAME COUNT   does the operation COUNT times
//
// The guard runs each under valgrind with two counts; the difference is of the operation alone.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/utf8.h"
#include "router.h"
#include "session.h"
#include "support/fake_transport.h"
#include "ws/frame.h"
#include "ws/protocol.h"

using namespace sluice;

namespace {

constexpr std::uint32_t mask = 0x5EA1F00D;

// So that nothing is optimised away.
volatile std::uint64_t used = 0;
void use(std::uint64_t value) {
  used = used + value;
}

MutableBytes mutable_bytes(std::string& text) {
  return {reinterpret_cast<std::uint8_t*>(text.data()), text.size()};
}

// A text message as a client sends it.
std::string frame_of(std::string payload) {
  std::uint8_t header[ws::header_bytes_max];
  const std::size_t size = ws::write_header(
      {.masked = true, .opcode = ws::Opcode::text, .mask = mask, .payload_bytes = payload.size()},
      header);
  ws::apply_mask(as_bytes(payload), mutable_bytes(payload).data(), mask, 0);
  return std::string(reinterpret_cast<const char*>(header), size) + payload;
}

void parse_header(std::uint64_t count) {
  std::string frame = frame_of(std::string(1024, 'a'));
  const ws::FrameRules rules{.masked = true,
                             .in_message = false,
                             .fragments_used_up = false,
                             .payload_bytes_max = 1024 * 1024};
  ws::HeaderParser parser;
  while (count-- > 0) {
    MutableBytes input = mutable_bytes(frame);
    use(parser.parse(input, rules).header.payload_bytes);
  }
}

void unmask(std::uint64_t count) {
  std::string text(1024, 'a');
  while (count-- > 0) use(ws::apply_mask(as_bytes(text), mutable_bytes(text).data(), mask, count));
}

void validate(std::string_view character, std::uint64_t count) {
  std::string text;
  while (text.size() < 1024) text += character;
  while (count-- > 0) use(is_valid_utf8(as_bytes(text)));
}

// Received, unmasked, checked, and sent as a frame of our own: what needs no session.
void protocol_echo(std::size_t size, std::uint64_t count) {
  const std::string frame = frame_of(std::string(size, 'a'));
  const ws::ProtocolLimits limits{.message_bytes_max = 1024 * 1024};
  ws::Protocol protocol(ws::Role::server, limits);
  ChunkPool pool;
  ByteQueue out(pool);
  std::string input;
  while (count-- > 0) {
    input.assign(frame);
    protocol.receive(mutable_bytes(input));
    while (const auto event = protocol.next_event()) {
      protocol.send_message(event->message_type, event->payload, out);
    }
    out.clear();
  }
}

// The whole way of a message but for the plugin and the kernel.
class EchoSession final : private Session::Owner {
 public:
  ~EchoSession() override { wheel_.set(*this, TimerWheel::never); }

  void run(std::size_t size, std::uint64_t count) {
    const std::string frame = frame_of(std::string(size, 'a'));
    std::string input;
    while (count-- > 0) {
      input.assign(frame);
      session_.receive(mutable_bytes(input));
      transport_.output().clear();
      session_.on_flushed();
    }
  }

 private:
  void on_session_message(MessageType type, Bytes payload) override {
    session_.send(type, payload);
  }
  void on_session_drain() override {}
  void on_session_wake() override {}
  void on_session_end() override { std::abort(); }
  void on_deadline() override { session_.on_deadline(); }

  config::Route route_;
  SessionSettings settings_{route_};
  ChunkPool pool_;
  test::FakeTransport transport_{pool_};
  TimerWheel wheel_{0};
  metrics::RouteCounters counters_;
  SessionContext context_{settings_, wheel_, counters_};
  Session session_{ws::Role::server, context_, transport_, static_cast<Session::Owner&>(*this)};
};

void look_up_route(std::uint64_t count) {
  Router router;
  std::uint32_t number = 0;
  for (const char* pattern : {"/*", "/echo", "/chat/{room}", "/chat/*", "/app/*", "/app/v1/live"}) {
    if (!router.add("", pattern, number++)) std::abort();
  }
  while (count-- > 0) use(router.match("example.com", "/chat/lobby")->route);
}

struct Operation {
  const char* name;
  std::function<void(std::uint64_t)> run;
};

const Operation operations[] = {
    {"parse a frame header", parse_header},
    {"unmask 1 KiB", unmask},
    {"validate 1 KiB of ASCII", [](auto count) { validate("a", count); }},
    {"validate 1 KiB of Chinese", [](auto count) { validate("\u53D1", count); }},
    {"frame to frame, 20 B", [](auto count) { protocol_echo(20, count); }},
    {"frame to frame, 1 KiB", [](auto count) { protocol_echo(1024, count); }},
    {"session echo, 20 B", [](auto count) { EchoSession().run(20, count); }},
    {"session echo, 16 KiB", [](auto count) { EchoSession().run(16384, count); }},
    {"look up a route", look_up_route},
};

}  // namespace

int main(int argc, char** argv) {
  for (const Operation& operation : operations) {
    if (argc < 3) {
      std::puts(operation.name);
    } else if (std::strcmp(operation.name, argv[1]) == 0) {
      operation.run(std::strtoull(argv[2], nullptr, 10));
      return 0;
    }
  }
  return argc < 3 ? 0 : 2;
}
