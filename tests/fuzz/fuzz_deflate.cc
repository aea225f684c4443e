// permessage-deflate: what is offered, what is received and what is sent.
//
//   byte 0   the low two bits choose: 0 a field, 1 frames of a peer, 2 and 3 messages of ours; of
//            messages bit 3 the level, so that without context takeover it is ISA-L or zlib
//   byte 1   bit 0 context takeover, bit 1 a small limit, bits 2 to 4 the window; the rest cuts
//
// What must hold: a field that is parsed says the same again when it is written, and an answer of
// ours fits its offer; frames give the same messages however they are cut and whenever we pause,
// none larger than the limit; what is sent is what the other end inflates, and all memory comes
// back.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/input.h"
#include "ws/compression.h"
#include "ws/permessage_deflate.h"
#include "ws/protocol.h"

namespace {

using namespace sluice;
using fuzz::Input;
using fuzz::require;
using ws::DeflateParameters;
using ws::Event;
using ws::Protocol;
using ws::Role;

constexpr std::uint64_t small_limit = 3'000;
constexpr std::uint8_t fast_level = 2;
constexpr std::uint8_t good_level = 6;

struct Terms {
  explicit Terms(std::uint8_t byte)
      : takeover((byte & 1U) != 0),
        message_bytes_max((byte & 2U) != 0 ? small_limit : 1'000'000),
        window_bits(static_cast<std::uint8_t>(8 + ((byte >> 2U) & 7U))),
        piece(1U + (byte >> 5U) * 7U) {}

  bool takeover;
  std::uint64_t message_bytes_max;
  std::uint8_t window_bits;
  std::size_t piece;

  DeflateParameters agreed() const { return {{takeover, window_bits}, {takeover, window_bits}}; }
};

// One end, and everything that it has said.
class End {
 public:
  End(Role role, const Terms& terms, std::uint8_t level = fast_level) : pool_(16 * 1024 * 1024) {
    limits_.message_bytes_max = terms.message_bytes_max;
    limits_.compression = {
        .pool = &pool_, .level = level, .ratio_max = 100, .ratio_bytes_min = 100'000};
    protocol_ = std::make_unique<Protocol>(
        role, limits_, *ws::make_compression(role, terms.agreed(), limits_.compression));
  }
  ~End() {
    protocol_.reset();
    pool_.shrink();
    require(pool_.used_bytes() == 0, "the memory comes back");
  }

  // `pauses`: after each event.
  void receive(Bytes wire, std::size_t piece, bool pauses = false) {
    while (!wire.empty()) {
      const Bytes part = wire.first(std::min(piece, wire.size()));
      wire = wire.subspan(part.size());
      std::vector<std::uint8_t> bytes(part.begin(), part.end());
      protocol_->receive(bytes);
      while (const auto event = protocol_->next_event()) {
        take(*event);
        if (pauses) put_aside(bytes);
      }
    }
  }

  Protocol& protocol() { return *protocol_; }

  std::vector<std::string> messages;
  std::uint16_t ended = 0;

 private:
  void put_aside(std::vector<std::uint8_t>& bytes) {
    const Bytes rest = protocol_->rest();
    std::vector<std::uint8_t> aside(rest.begin(), rest.end());
    bytes.swap(aside);
    std::ranges::fill(aside, std::uint8_t{0xFF});
    protocol_->receive(bytes);
  }

  void take(const Event& event) {
    require(ended == 0, "nothing comes behind the end");
    if (event.type == Event::Type::close || event.type == Event::Type::failure) {
      ended = event.close_code;
    }
    if (event.type != Event::Type::data) return;
    if (event.message_start) message_.clear();
    message_ += as_text(event.payload);
    require(message_.size() <= limits_.message_bytes_max, "no message is over the limit");
    if (event.message_end) messages.push_back(message_);
  }

  ws::CompressionPool pool_;
  ws::ProtocolLimits limits_;
  std::unique_ptr<Protocol> protocol_;
  std::string message_;
};

void negotiate(const Terms& terms, Bytes field) {
  const auto extensions = ws::parse_extensions(as_text(field));
  if (!extensions) return;
  std::string written;
  for (const auto& extension : *extensions) {
    written += (written.empty() ? "" : ", ") + to_string(extension);
  }
  const auto again = ws::parse_extensions(written);
  require(again && again->size() == extensions->size(), "what is written is read again");
  const auto agreement = ws::agree_to_deflate(*extensions, {terms.takeover, terms.window_bits});
  const std::string passable = ws::passable_offers(*extensions);
  require(agreement.has_value() == !passable.empty(), "what can be passed on can be agreed to");
  if (agreement)
    require(ws::answers_offers(agreement->field, passable), "the answer fits the offer");
}

// What the cutting decides is only which mistake is seen first; and, with a small window, whether a
// reference that goes too far back is one (Inflater::inflate()).
void receive(const Terms& terms, Role role, Bytes wire) {
  End whole(role, terms);
  End cut(role, terms);
  whole.receive(wire, wire.size());
  cut.receive(wire, terms.piece);
  End paused(role, terms);
  paused.receive(wire, wire.size(), true);
  require(paused.ended == whole.ended && paused.messages == whole.messages,
          "pauses change nothing");
  require(whole.ended == 0 || cut.ended != 0, "what is a mistake whole is one in pieces");
  if (terms.window_bits == ws::window_bits_max) {
    require(whole.ended != 0 || cut.ended == 0, "they end alike");
  }
  const std::size_t common = std::min(whole.messages.size(), cut.messages.size());
  require(std::equal(whole.messages.begin(), whole.messages.begin() + static_cast<long>(common),
                     cut.messages.begin()),
          "they give the same messages");
  if (cut.ended == 0) require(whole.messages.size() == cut.messages.size(), "and as many");
}

void send(const Terms& terms, bool streamed, std::uint8_t level, Input input) {
  const Terms roomy(static_cast<std::uint8_t>(terms.takeover ? 1 : 0) |
                    static_cast<std::uint8_t>((terms.window_bits - 8) << 2));
  End server(Role::server, roomy, level);
  End client(Role::client, roomy);
  ChunkPool chunks;
  ByteQueue out(chunks);
  std::vector<std::string> sent;
  while (!input.empty() && sent.size() < 8) {
    const std::size_t repeat = 1 + input.byte() % 64;
    const Bytes part = input.take(input.byte());
    std::string message;
    for (std::size_t i = 0; i < repeat; ++i) message += as_text(part);
    if (streamed) {
      const std::size_t half = message.size() / 2;
      server.protocol().begin_frame(MessageType::binary, true, false, half, out);
      if (half > 0) server.protocol().send_payload(as_bytes(message).first(half), out);
      server.protocol().begin_frame(MessageType::binary, false, true, message.size() - half, out);
      if (half < message.size())
        server.protocol().send_payload(as_bytes(message).subspan(half), out);
    } else {
      server.protocol().send_message(MessageType::binary, as_bytes(message), out);
    }
    sent.push_back(message);
  }
  client.receive(as_bytes(out.to_string()), terms.piece);
  require(client.ended == 0 && client.messages == sent, "what is sent is what arrives");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const unsigned what = input.byte();
  const Terms terms(input.byte());
  switch (what & 3U) {
    case 0:
      negotiate(terms, input.rest());
      break;
    case 1:
      receive(terms, (what & 4U) != 0 ? Role::server : Role::client, input.rest());
      break;
    default:
      send(terms, (what & 1U) != 0, (what & 8U) != 0 ? good_level : fast_level, input);
  }
  return 0;
}
