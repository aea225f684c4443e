// permessage-deflate on the wire: RFC 7692 sections 6 to 8.
#include "ws/compression.h"

#include <doctest/doctest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/byte_queue.h"
#include "ws/close_code.h"
#include "ws/protocol.h"

using namespace sluice;
using namespace sluice::ws;

namespace {

constexpr std::size_t plenty = 64 * 1024 * 1024;

std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text.push_back(static_cast<char>(value));
  return text;
}

// One end of a connection.
struct End {
  End(Role role, const DeflateParameters& agreed, ProtocolLimits given = {},
      std::size_t memory = plenty)
      : pool(memory), limits(given) {
    limits.compression.pool = &pool;
    auto compression = make_compression(role, agreed, limits.compression);
    REQUIRE(compression);
    protocol = std::make_unique<Protocol>(role, limits, std::move(*compression));
  }

  // Takes everything in pieces of `size`; returns what became of it.
  std::string receive(std::string input, std::size_t size = 1 << 20) {
    std::string said;
    std::string message;
    for (std::size_t at = 0; at < input.size(); at += size) {
      std::vector<std::uint8_t> piece(
          input.begin() + static_cast<std::ptrdiff_t>(at),
          input.begin() + static_cast<std::ptrdiff_t>(std::min(at + size, input.size())));
      protocol->receive(piece);
      while (const auto event = protocol->next_event()) said += told(*event, message);
    }
    return said;
  }

  std::string told(const Event& event, std::string& message) {
    if (event.type == Event::Type::ping) return "ping ";
    if (event.type != Event::Type::data) {
      return "close " + std::to_string(event.close_code) + " " +
             std::string(as_text(event.payload)) + " ";
    }
    ++pieces;
    if (event.message_start && message.empty()) started = true;
    message += as_text(event.payload);
    if (!event.message_end) return "";
    CHECK(std::exchange(started, false));
    return std::exchange(message, {}) + " ";
  }

  std::string sent(std::string_view text, MessageType type = MessageType::text) {
    ByteQueue out(chunks);
    protocol->send_message(type, as_bytes(text), out);
    return out.to_string();
  }
  std::string sent(PreparedMessage& message) {
    ByteQueue out(chunks);
    protocol->send_prepared(message, out);
    return out.to_string();
  }

  CompressionPool pool;
  ChunkPool chunks;
  ProtocolLimits limits;
  std::unique_ptr<Protocol> protocol;
  std::size_t pieces = 0;
  bool started = false;
};

constexpr DeflateParameters no_takeover{};
constexpr DeflateParameters takeover{{true, 15}, {true, 15}};
// Of which a window is kept, not a stream.
constexpr DeflateParameters narrow_takeover{{true, 12}, {true, 12}};

// A server's frames are not masked, so a client's end reads what the RFC shows.
std::string inflated(const std::string& wire, std::size_t size = 1 << 20,
                     const DeflateParameters& agreed = takeover, ProtocolLimits limits = {}) {
  return End(Role::client, agreed, limits).receive(wire, size);
}

const std::string hello = bytes({0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00});

std::string random_text(std::size_t size, unsigned seed, int letters) {
  std::mt19937 random(seed);
  std::string text(size, ' ');
  for (char& c : text)
    c = static_cast<char>('a' + static_cast<int>(random() % static_cast<unsigned>(letters)));
  return text;
}

std::string random_bytes_of(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(size, ' ');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// What `deflater` has of `text`, which comes in pieces and leaves in rooms of the given sizes.
std::string deflated(Deflater& deflater, std::string_view text, std::size_t piece_size,
                     std::size_t room_size) {
  std::vector<std::uint8_t> room(room_size);
  std::string out;
  const auto take = [&](bool flush) {
    for (bool more = true; more;) {
      const Deflater::Result result = deflater.deflate(room, flush);
      CHECK(result.size <= room_size);
      CHECK((result.size != 0 || !result.more));
      out += as_text(Bytes(room).first(result.size));
      more = result.more;
    }
  };
  for (std::size_t at = 0; at < text.size(); at += piece_size) {
    deflater.feed(as_bytes(text.substr(at, piece_size)));
    if (at + piece_size < text.size()) take(false);
  }
  take(true);
  deflater.end_message();
  return out;
}

// What `inflater` has of it when it refers to what it has kept, and to nothing else; "" if it is
// invalid.
std::string inflated_narrowly(const std::string& compressed, Inflater& inflater) {
  std::string text;
  // zlib refers to the room too, so it has but one byte.
  std::uint8_t room[1];
  inflater.feed(as_bytes(compressed));
  while (inflater.pending()) {
    const Inflater::Result result = inflater.inflate(room);
    if (result.status == Inflater::Status::invalid) return "";
    text.append(result.size, static_cast<char>(room[0]));
    if (!inflater.pending() && !inflater.tail_fed()) inflater.feed_tail();
  }
  const bool ended = inflater.at_message_end();
  inflater.end_message();
  return ended ? text : "";
}

// What a receiver has of it that keeps 2^window_bits bytes and not one more.
std::string inflated_narrowly(const std::string& compressed, std::uint8_t window_bits) {
  CompressionPool pool(plenty);
  return inflated_narrowly(compressed, *pool.take_inflater(window_bits));
}

// What repeats itself, so that it is worth looking for.
std::string rooms_as_json() {
  std::string json;
  for (int i = 0; i < 300; ++i) {
    json += R"({"id":)" + std::to_string(i * i * 7919 % 10'007) + R"(,"room":")" +
            random_text(1, static_cast<unsigned>(i), 20) + R"(","members":[1,2,3]},)";
  }
  return json;
}

constexpr std::uint8_t isal_level = 2;
constexpr std::uint8_t zlib_level = 6;

}  // namespace

TEST_CASE("the examples of RFC 7692 7.2.3 are inflated, whole and byte by byte") {
  for (const std::size_t size : {std::size_t{1} << 20, std::size_t{1}, std::size_t{3}}) {
    CAPTURE(size);
    CHECK(inflated(hello, size) == "Hello ");
    // 7.2.3.1: in two fragments
    CHECK(inflated(bytes({0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00}),
                   size) == "Hello ");
    // 7.2.3.2: the second message refers to the first
    CHECK(inflated(hello + bytes({0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00}), size) ==
          "Hello Hello ");
    // 7.2.3.3: a block without compression
    CHECK(inflated(
              bytes({0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00}),
              size) == "Hello ");
    // 7.2.3.4: a block with BFINAL, and a message behind it that refers to it
    CHECK(inflated(bytes({0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}) +
                       bytes({0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00}),
                   size) == "Hello Hello ");
    // 7.2.3.5: two blocks
    CHECK(inflated(bytes({0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9,
                          0xc9, 0x07, 0x00}),
                   size) == "Hello ");
    // 7.2.3.6: an empty message, and one that is not compressed
    CHECK(inflated(bytes({0xc1, 0x01, 0x00, 0x81, 0x02, 'h', 'i'}), size) == " hi ");
    // A ping between two fragments.
    CHECK(inflated(
              bytes({0x41, 0x03, 0xf2, 0x48, 0xcd, 0x89, 0x00, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00}),
              size) == "ping Hello ");
  }
}

TEST_CASE("a message that comes whole is one piece, however it was compressed") {
  End end(Role::client, no_takeover);
  CHECK(end.receive(hello) == "Hello ");
  CHECK(end.pieces == 1);
  CHECK(end.pool.take_received_bytes() == 7);
}

TEST_CASE("without context takeover a message may not refer to the one before (RFC 7692 7.1.1)") {
  CHECK(inflated(hello + bytes({0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00}), 1 << 20, no_takeover) ==
        "Hello close 1007 invalid compressed data ");
}

TEST_CASE("who stops between two events takes with it what was not inflated yet") {
  for (const Role role : {Role::server, Role::client}) {
    for (const std::string& text :
         {random_text(500'000, 3, 4), std::string(1'000'000, 'x'), std::string(64 * 1024, 'y')}) {
      End sender(role == Role::server ? Role::client : Role::server, takeover);
      End receiver(role, takeover);
      std::string wire = sender.sent(text) + sender.sent("next");
      std::string message;
      std::string said;
      while (!wire.empty() || receiver.protocol->pending()) {
        // Memory of its own each time, of which a sanitizer sees that it is gone.
        std::vector<std::uint8_t> input(wire.begin(), wire.end());
        receiver.protocol->receive(input);
        if (const auto event = receiver.protocol->next_event()) {
          said += receiver.told(*event, message);
        }
        const std::string rest(as_text(receiver.protocol->rest()));
        CHECK(wire.ends_with(rest));
        wire = rest;
        std::ranges::fill(input, 0xFF);
      }
      CHECK((said == text + " next "));
      CHECK_FALSE(receiver.protocol->next_event());
    }
  }
}

TEST_CASE("RSV1 is for the first frame of a message (RFC 7692 6)") {
  const std::string reserved = "close 1002 reserved bits are set ";
  CHECK(inflated(bytes({0x41, 0x03, 0xf2, 0x48, 0xcd, 0xc0, 0x04, 0xc9, 0xc9, 0x07, 0x00})) ==
        reserved);
  CHECK(inflated(bytes({0xc9, 0x00})) == reserved);
  CHECK(inflated(bytes({0xc8, 0x00})) == reserved);
  CHECK(inflated(bytes({0xa1, 0x00})) == reserved);
  CHECK(inflated(bytes({0x91, 0x00})) == reserved);
  CHECK(inflated(bytes({0xf1, 0x00})) == reserved);
  CHECK(inflated(bytes({0xc3, 0x00})) == "close 1002 reserved opcode ");
  // And nobody's where it was not agreed on.
  const ProtocolLimits limits;
  Protocol plain(Role::client, limits);
  std::vector<std::uint8_t> input(hello.begin(), hello.end());
  plain.receive(input);
  CHECK(plain.next_event()->close_code == protocol_error);
}

TEST_CASE("what is not DEFLATE, or ends in the midst of a block, fails with 1007") {
  const std::string invalid = "close 1007 invalid compressed data ";
  CHECK(inflated(bytes({0xc1, 0x02, 0xff, 0xff})) == invalid);
  CHECK(inflated(bytes({0xc1, 0x03, 0xf2, 0x48, 0xcd})) == invalid);  // "Hel", and no end
  CHECK(inflated(bytes({0xc2, 0x00})) == invalid);
  // Refers to what was never there.
  CHECK(inflated(bytes({0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00})) == invalid);
}

TEST_CASE("text is validated while it is inflated, before its frame has arrived whole (8.1)") {
  End client(Role::client, no_takeover);
  End server(Role::server, no_takeover);
  const std::string wire = server.sent(
      random_text(100'000, 1, 26) + "\xff" + random_text(100'000, 2, 26), MessageType::binary);
  std::string as_text = wire;
  as_text[0] = static_cast<char>(0x41);  // the first fragment, as text
  std::string said;
  std::string message;
  std::size_t used = 0;
  for (; used < as_text.size() && said.empty(); ++used) {
    said = client.receive(as_text.substr(used, 1));
  }
  CHECK(said == "close 1007 text is not valid UTF-8 ");
  CHECK(used < as_text.size() * 2 / 3);
}

TEST_CASE("a bomb is stopped at max_message_size while it is inflated") {
  End server(Role::server, no_takeover);
  const std::string wire = server.sent(std::string(100'000'000, '\0'), MessageType::binary);
  CHECK(wire.size() < 200'000);
  const ProtocolLimits limits{.message_bytes_max = 1024 * 1024};
  End client(Role::client, no_takeover, limits);
  CHECK(client.receive(wire, 65536) == "close 1009 message too big ");
  CHECK(client.pieces <= 16);
  CHECK(client.pool.used_bytes() < 64 * 1024);
}

TEST_CASE("a message of exactly the largest size passes, also one that does not compress") {
  const ProtocolLimits limits{.message_bytes_max = 70'000};
  for (const std::string& payload : {random_bytes_of(70'000, 7), std::string(70'000, 'x')}) {
    for (const DeflateParameters& agreed : {no_takeover, takeover, narrow_takeover}) {
      End server(Role::server, agreed);
      End client(Role::client, agreed, limits);
      CHECK(client.receive(server.sent(payload, MessageType::binary)) == payload + " ");
      CHECK(client.receive(server.sent(payload + "x", MessageType::binary)) ==
            "close 1009 message too big ");
    }
  }
}

TEST_CASE("stored blocks without content are no way around the limit") {
  std::string flood = bytes({0x42, 0x7e, 0x40, 0x00});
  while (flood.size() < 4 + 0x4000) flood += bytes({0x00, 0x00, 0x00, 0xff, 0xff});
  flood.resize(4 + 0x4000);
  CHECK(inflated(flood, 1 << 20, no_takeover, {.message_bytes_max = 1000}) ==
        "close 1009 message too big ");
}

TEST_CASE("the ratio is capped above a floor, on routes without a largest message too") {
  End server(Role::server, no_takeover);
  const std::string wire = server.sent(std::string(4'000'000, 'x'), MessageType::binary);
  ProtocolLimits limits;
  limits.compression.ratio_max = 100;
  limits.compression.ratio_bytes_min = 1'000'000;
  CHECK(inflated(wire, 1 << 20, no_takeover, limits) == "close 1009 compression ratio too high ");
  limits.compression.ratio_max = 2000;
  CHECK(inflated(wire, 1 << 20, no_takeover, limits).size() == 4'000'001);
  limits.compression.ratio_max = 100;
  limits.compression.ratio_bytes_min = 5'000'000;
  CHECK(inflated(wire, 1 << 20, no_takeover, limits).size() == 4'000'001);
}

TEST_CASE("what is sent is what the other end inflates, in every mode and window") {
  struct Mode {
    bool keeps;
    std::uint8_t level;
  };
  for (std::uint8_t bits = window_bits_min; bits <= window_bits_max; ++bits) {
    for (const Mode mode : {Mode{false, 2}, Mode{false, 6}, Mode{true, 2}, Mode{true, 6}}) {
      CAPTURE(int{bits});
      CAPTURE(mode.keeps);
      CAPTURE(int{mode.level});
      const DeflateParameters agreed{{mode.keeps, bits}, {mode.keeps, bits}};
      ProtocolLimits limits;
      limits.compression.level = mode.level;
      End server(Role::server, agreed, limits);
      End client(Role::client, agreed, limits);
      for (const std::size_t size : {1, 5, 126, 1000, 20'000, 65'536, 300'000}) {
        for (const int letters : {1, 3, 26}) {
          const std::string text = random_text(size, bits, letters);
          CHECK(client.receive(server.sent(text), 1000) == text + " ");
          CHECK(server.receive(client.sent(text), 1000) == text + " ");
        }
      }
      const std::string noise = random_bytes_of(200'000, bits);
      CHECK(client.receive(server.sent(noise, MessageType::binary), 777) == noise + " ");
    }
  }
}

TEST_CASE("what is sent refers back no further than the window that was agreed on (7.1.2)") {
  for (std::uint8_t bits = window_bits_min; bits <= window_bits_max; ++bits) {
    for (const std::uint8_t level : {isal_level, zlib_level}) {
      CAPTURE(int{bits});
      CAPTURE(int{level});
      CompressionPool pool(plenty);
      const auto deflater = pool.take_deflater({false, bits}, level);
      for (const int letters : {2, 4, 8}) {
        const std::string text = random_text(100'000, bits, letters);
        CHECK((inflated_narrowly(deflated(*deflater, text, 30'000, 65'536), bits) == text));
        deflater->reset();
      }
      // A phrase comes again, at every distance about the window's size.
      const std::string phrase = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
      const std::size_t window = std::size_t{1} << bits;
      for (std::size_t gap = window - 40; gap < window + 10; ++gap) {
        const std::string text = phrase + random_bytes_of(gap, bits) + phrase;
        CHECK(inflated_narrowly(deflated(*deflater, text, text.size(), 65'536), bits) == text);
        deflater->reset();
      }
    }
  }
}

TEST_CASE("what is kept between messages is the window, and they refer to it and no further") {
  for (std::uint8_t bits = window_bits_min; bits <= 12; ++bits) {
    for (const std::uint8_t level : {isal_level, zlib_level}) {
      CAPTURE(int{bits});
      CAPTURE(int{level});
      CompressionPool pool(plenty);
      const auto window = pool.take_sent_window(bits);
      const auto inflater = pool.take_inflater(bits);
      const std::size_t bytes_max = std::size_t{1} << bits;
      std::string all;
      std::size_t repeated_size = 0;
      for (const std::size_t size : {3, 100, 150, 255, 1, 256, 257, 5'000, 40, 90'000, 1'000}) {
        for (int i = 0; i < 2; ++i) {  // the same again
          const auto deflater = pool.take_deflater({true, bits}, level);
          deflater->continue_after(window->bytes());
          const std::string text = random_text(size, static_cast<unsigned>(size), 8);
          const std::string compressed = deflated(*deflater, text, text.size(), 65'536);
          CHECK(inflated_narrowly(compressed, *inflater) == text);
          window->append(as_bytes(text));
          all += text;
          CHECK(as_text(window->bytes()) ==
                all.substr(all.size() - std::min(all.size(), bytes_max)));
          if (size == 100 && i == 1) repeated_size = compressed.size();
        }
      }
      CHECK(repeated_size < 20);  // it was found in the window
    }
  }
}

TEST_CASE("a message is whole however it comes, and whatever room it is given") {
  // Of either, behind a flush for which the room ended within its last bytes.
  constexpr std::size_t empty_block = 6;
  for (const std::uint8_t level : {isal_level, zlib_level}) {
    CAPTURE(int{level});
    CompressionPool pool(plenty);
    const auto deflater = pool.take_deflater({false, 15}, level);
    for (const std::string& text : {std::string("Hello"), random_text(700, 1, 3),
                                    random_bytes_of(900, 3), std::string(50'000, 'x')}) {
      const std::string whole = deflated(*deflater, text, text.size(), 65'536);
      const auto check = [&](std::size_t room) {
        CAPTURE(room);
        deflater->reset();
        const std::string at_once = deflated(*deflater, text, text.size(), room);
        CHECK(at_once.size() <= whole.size() + empty_block);
        CHECK((inflated_narrowly(at_once, 15) == text));
        // Its last byte, which is held back, is the room's: ISA-L need not flush again.
        if (level == isal_level && room == whole.size() + 4) CHECK((at_once == whole));
        deflater->reset();
        const std::string in_pieces = deflated(*deflater, text, 1 + text.size() / 9, room);
        CHECK(in_pieces.size() < whole.size() + whole.size() / 16 + 80);
        CHECK((inflated_narrowly(in_pieces, 15) == text));
      };
      for (std::size_t room = 16; room < 64; ++room) check(room);
      for (std::size_t more = 0; more < 16; ++more)
        check(std::max<std::size_t>(16, whole.size()) + more);
      deflater->reset();
    }
  }
}

TEST_CASE("a flush that has nothing new writes nothing") {
  for (const bool keeps : {false, true}) {
    CompressionPool pool(plenty);
    const auto deflater = pool.take_deflater({keeps, 15}, isal_level);
    std::vector<std::uint8_t> room(100);
    deflater->feed(as_bytes("Hello"));
    CHECK(deflater->deflate(room, true).size == 7);
    for (int i = 0; i < 3; ++i) {
      deflater->feed({});
      const Deflater::Result result = deflater->deflate(room, true);
      CHECK(result.size == 0);
      CHECK_FALSE(result.more);
    }
  }
}

TEST_CASE("what cannot be compressed grows by little, in pieces too") {
  const std::string noise = random_bytes_of(1'000'000, 4);
  for (const std::size_t piece : {std::size_t{1'000}, std::size_t{70'000}, noise.size()}) {
    CAPTURE(piece);
    CompressionPool pool(plenty);
    const auto deflater = pool.take_deflater({false, 15}, isal_level);
    const std::string compressed = deflated(*deflater, noise, piece, 65'536);
    CHECK(compressed.size() > noise.size());
    CHECK(compressed.size() < noise.size() + noise.size() / 256);
    CHECK((inflated_narrowly(compressed, 15) == noise));
  }
}

TEST_CASE("without context takeover levels 1 to 3 are one, and the others zlib's") {
  const std::string json = rooms_as_json();
  const auto size = [&](const DeflateParameters& agreed, std::uint8_t level) {
    ProtocolLimits limits;
    limits.compression.level = level;
    return End(Role::server, agreed, limits).sent(json).size();
  };
  const std::size_t isal = size(no_takeover, isal_level);
  CHECK(size(no_takeover, 1) == isal);
  CHECK(size(no_takeover, 3) == isal);
  CHECK(isal < size(takeover, 3));
  // A first message is the same for both.
  for (std::uint8_t level = 4; level <= 9; ++level) {
    CHECK(size(no_takeover, level) == size(takeover, level));
  }
  CHECK(size(no_takeover, 9) < isal);
}

TEST_CASE("compression helps, and context takeover helps more") {
  const std::string json = R"({"id":12345,"name":"a room","members":[1,2,3],"topic":"weather"})";
  End alone(Role::server, no_takeover);
  const std::size_t first = alone.sent(json + json).size();
  CHECK(first < json.size() * 3 / 2);
  CHECK(alone.sent(json + json).size() == first);
  CHECK(alone.pool.take_sent_bytes() == 2 * (first - 2));
  End kept(Role::server, takeover);
  CHECK(kept.sent(json + json).size() == first);
  CHECK(kept.sent(json + json).size() < first / 4);
}

TEST_CASE("small messages, empty ones and those that do not shrink are sent as they are") {
  ProtocolLimits limits;
  limits.compression.message_bytes_min = 10;
  End server(Role::server, no_takeover, limits);
  CHECK(server.sent("xxxxxxxxx") == bytes({0x81, 9}) + "xxxxxxxxx");
  CHECK(server.sent("xxxxxxxxxx").front() == static_cast<char>(0xc1));
  CHECK(server.sent("") == bytes({0x81, 0}));
  CHECK(server.sent(random_bytes_of(500, 3), MessageType::binary).front() ==
        static_cast<char>(0x82));
  End kept(Role::server, takeover);
  // The receiver's context must have what ours has.
  CHECK(kept.sent(random_bytes_of(500, 3), MessageType::binary).front() == static_cast<char>(0xc2));
}

TEST_CASE("a message in pieces is compressed as it comes, and others may speak in between") {
  for (const DeflateParameters& agreed : {no_takeover, takeover, narrow_takeover}) {
    End server(Role::server, agreed);
    End client(Role::client, agreed);
    for (const std::size_t piece_size : {std::size_t{1}, std::size_t{700}, std::size_t{400'000}}) {
      const std::string text = random_text(300'000, 5, 10);
      ByteQueue out(server.chunks);
      Protocol& protocol = *server.protocol;
      const std::size_t half = text.size() / 2;
      protocol.begin_frame(MessageType::text, true, false, half, out);
      CHECK(protocol.awaits_payload());
      CHECK_FALSE(protocol.in_frame());
      for (std::size_t at = 0; at < half;) {
        const std::size_t size = std::min(piece_size, half - at);
        protocol.send_payload(as_bytes(std::string_view(text).substr(at, size)), out);
        at += size;
        if (at == size) protocol.send_ping({}, out);
      }
      protocol.begin_frame(MessageType::text, false, false, 0, out);
      protocol.begin_frame(MessageType::text, false, true, text.size() - half, out);
      protocol.send_payload(as_bytes(std::string_view(text).substr(half)), out);
      CHECK_FALSE(protocol.awaits_payload());
      CHECK(out.size() < text.size() * 3 / 4);
      CHECK(client.receive(out.to_string(), 999) == "ping " + text + " ");
    }
  }
}

TEST_CASE("messages in pieces that are empty, or end with an empty frame, are valid") {
  for (const DeflateParameters& agreed : {no_takeover, takeover, narrow_takeover}) {
    End server(Role::server, agreed);
    End client(Role::client, agreed);
    for (int round = 0; round < 3; ++round) {
      ByteQueue out(server.chunks);
      Protocol& protocol = *server.protocol;
      protocol.begin_frame(MessageType::text, true, false, 0, out);
      protocol.begin_frame(MessageType::text, false, true, 0, out);
      protocol.begin_frame(MessageType::text, true, false, 5, out);
      protocol.send_payload(as_bytes("Hello"), out);
      protocol.begin_frame(MessageType::text, false, true, 0, out);
      protocol.begin_frame(MessageType::text, true, true, 0, out);
      CHECK(client.receive(out.to_string()) == " Hello  ");
    }
  }
}

TEST_CASE("after a Close frame the rest of a message in pieces is ignored") {
  End server(Role::server, no_takeover);
  ByteQueue out(server.chunks);
  server.protocol->begin_frame(MessageType::text, true, true, 10'000, out);
  server.protocol->send_payload(as_bytes("12345"), out);
  server.protocol->send_close(1000, "", out);
  const std::size_t size = out.size();
  server.protocol->send_payload(as_bytes(random_text(9'995, 1, 26)), out);
  CHECK(out.size() == size);
  CHECK_FALSE(server.protocol->awaits_payload());
}

TEST_CASE("between its messages an end holds no more than its context takeover needs") {
  CompressionPool pool(plenty);
  ProtocolLimits limits;
  limits.compression.pool = &pool;
  ChunkPool chunks;
  std::vector<std::unique_ptr<Protocol>> ends;
  const auto add = [&](const DeflateParameters& agreed) {
    ends.push_back(std::make_unique<Protocol>(
        Role::client, limits, *make_compression(Role::client, agreed, limits.compression)));
    std::vector<std::uint8_t> input(hello.begin(), hello.end());
    ends.back()->receive(input);
    while (ends.back()->next_event()) continue;
    ByteQueue out(chunks);
    ends.back()->send_message(MessageType::text, as_bytes("HelloHelloHello"), out);
  };
  add(no_takeover);
  const std::size_t one = pool.used_bytes();
  for (int i = 0; i < 100; ++i) add(no_takeover);
  CHECK(pool.used_bytes() == one);
  pool.trim();
  CHECK(pool.used_bytes() == one);  // it was used since
  pool.trim();
  CHECK(pool.used_bytes() == 0);
  add(narrow_takeover);
  pool.trim();
  pool.trim();
  CHECK(pool.used_bytes() ==
        CompressionPool::inflater_bytes(12) + CompressionPool::sent_window_bytes(12));
  ends.pop_back();
  add(takeover);
  pool.trim();
  pool.trim();
  CHECK(pool.used_bytes() ==
        CompressionPool::inflater_bytes(15) + CompressionPool::deflater_bytes({true, 15}, 2));
  ends.clear();
  pool.trim();
  pool.trim();
  CHECK(pool.used_bytes() == 0);
}

TEST_CASE(
    "a stream for one message costs the same whatever its window, and is counted while lent") {
  constexpr std::size_t cost = 168 * 1024;  // of ISA-L, within a few kilobytes
  CompressionPool pool(plenty);
  for (std::uint8_t bits = window_bits_min; bits <= window_bits_max; ++bits) {
    const auto deflater = pool.take_deflater({false, bits}, isal_level);
    CHECK(pool.used_bytes() == CompressionPool::deflater_bytes({false, bits}, isal_level));
    CHECK(pool.used_bytes() == CompressionPool::deflater_bytes({false, 15}, isal_level));
    CHECK(pool.used_bytes() > cost - 4096);
    CHECK(pool.used_bytes() < cost + 4096);
  }
  CHECK(pool.used_bytes() == 0);
  CHECK(CompressionPool::deflater_bytes({false, 13}, zlib_level) ==
        CompressionPool::deflater_bytes({true, 13}, isal_level));
}

TEST_CASE("a spare stream is lent again only for the same terms") {
  CompressionPool pool(2 * CompressionPool::deflater_bytes({false, 15}, isal_level));
  auto first = pool.take_deflater({false, 15}, isal_level);
  Deflater* const address = first.get();
  const std::string text = random_text(3'000, 1, 9);
  const std::string compressed = deflated(*first, text, 1'000, 100);
  pool.give_back(std::move(first));
  const auto narrow = pool.take_deflater({false, 12}, isal_level);
  CHECK(narrow.get() != address);
  const auto again = pool.take_deflater({false, 15}, isal_level);
  CHECK(again.get() == address);
  CHECK(deflated(*again, text, 1'000, 100) == compressed);
  CHECK(pool.take_deflater({false, 15}, isal_level) == nullptr);
}

TEST_CASE(
    "over its budget a pool lends nothing: sent as it is, received with 1013, not agreed to") {
  CompressionPool pool(CompressionPool::inflater_bytes(15));
  ProtocolLimits limits;
  limits.compression.pool = &pool;
  CHECK_FALSE(make_compression(Role::server, takeover, limits.compression));
  CHECK(pool.used_bytes() <= pool.bytes_max());

  const auto receive = [](Protocol& protocol, std::string text) {
    std::vector<std::uint8_t> input(text.begin(), text.end());
    protocol.receive(input);
    return protocol.next_event();
  };
  const auto make = [&] {
    return std::make_unique<Protocol>(
        Role::client, limits, *make_compression(Role::client, no_takeover, limits.compression));
  };
  auto first = make();
  auto second = make();
  CHECK(receive(*first, hello.substr(0, 5))->payload.size() > 0);
  const auto refused = receive(*second, hello);
  REQUIRE(refused);
  CHECK(refused->close_code == try_again_later);
  ChunkPool chunks;
  ByteQueue out(chunks);
  first->send_message(MessageType::text, as_bytes(std::string(100, 'x')), out);
  CHECK((static_cast<unsigned char>(out.to_string()[0])) == 0x81);
  first.reset();
  auto third = make();
  CHECK(as_text(receive(*third, hello)->payload) == "Hello");
}

TEST_CASE("what sockets keep leaves room for the streams of a message") {
  for (const auto& terms : {narrow_takeover, takeover}) {
    const std::size_t kept = CompressionPool::inflater_bytes(terms.client.window_bits) +
                             (CompressionPool::keeps_deflater(terms.server)
                                  ? CompressionPool::deflater_bytes(terms.server, isal_level)
                                  : CompressionPool::sent_window_bytes(terms.server.window_bits));
    CompressionPool pool(3 * kept + CompressionPool::stream_bytes_max());
    const CompressionSettings settings{.pool = &pool, .level = isal_level};
    pool.give_back(pool.take_deflater({false, 12}, zlib_level));  // spare ones make way
    std::vector<std::optional<Compression>> made;
    for (int i = 0; i < 3; ++i) {
      CHECK(made.emplace_back(make_compression(Role::server, terms, settings)));
    }
    CHECK(pool.used_bytes() == 3 * kept);
    CHECK_FALSE(make_compression(Role::server, terms, settings));
    CHECK(make_compression(Role::server, no_takeover, settings));
    CHECK(pool.used_bytes() == 3 * kept);

    const auto inflater = pool.take_inflater(15);
    CHECK(inflater);
    CHECK(pool.take_deflater({true, 15}, zlib_level));
    CHECK(pool.take_deflater({false, 15}, isal_level));
  }
}

TEST_CASE("what was sent as it is, for want of memory, is not referred to later") {
  const std::size_t kept =
      CompressionPool::inflater_bytes(12) + CompressionPool::sent_window_bytes(12);
  End server(Role::server, narrow_takeover, {}, kept + CompressionPool::stream_bytes_max());
  End client(Role::client, narrow_takeover);
  const auto compressed = [&](unsigned seed) {
    const std::string text = random_text(1'000, seed, 8);
    const std::string wire = server.sent(text);
    CHECK(client.receive(wire) == text + " ");
    return (static_cast<unsigned char>(wire[0]) & 0x40) != 0;
  };
  CHECK(compressed(1));
  {
    server.pool.shrink();
    const auto other = server.pool.take_deflater({true, 15}, zlib_level);
    REQUIRE(other);
    CHECK_FALSE(compressed(2));
  }
  CHECK(compressed(1));
  CHECK(compressed(2));
}

TEST_CASE("a message for many is framed once for all who have agreed on the same") {
  const std::string text = random_text(3000, 7, 4);
  const std::string large = random_bytes_of(100'000, 8);
  constexpr DeflateParameters small_window{{false, 10}, {false, 15}};
  for (const std::string& payload : {text, large, std::string()}) {
    PreparedMessage message(MessageType::binary, as_bytes(payload), 7);
    const ProtocolLimits plain;
    for (int i = 0; i < 2; ++i) {
      Protocol sender(Role::server, plain);
      ChunkPool chunks;
      ByteQueue out(chunks);
      sender.send_prepared(message, out);
      CHECK(End(Role::client, no_takeover).receive(out.to_string()) == payload + " ");
    }
    CHECK(message.forms() == 1);
    std::uint64_t compressed_bytes = 0;
    for (int i = 0; i < 2; ++i) {
      End sender(Role::server, no_takeover);
      const std::string wire = sender.sent(message);
      CHECK(wire == End(Role::server, no_takeover).sent(payload, MessageType::binary));
      CHECK(End(Role::client, no_takeover).receive(wire) == payload + " ");
      const std::uint64_t counted = sender.pool.take_sent_bytes();
      if (i == 1) CHECK(counted == compressed_bytes);
      compressed_bytes = counted;
    }
    const std::size_t forms = payload.empty() ? 1 : 2;  // nothing to compress
    CHECK(message.forms() == forms);
    CHECK((compressed_bytes != 0) == !payload.empty());
    End narrow(Role::server, small_window);
    CHECK(End(Role::client, small_window).receive(narrow.sent(message)) == payload + " ");
    CHECK(message.forms() == (payload.empty() ? forms : forms + 1));
  }
}

TEST_CASE("a message for many has a form for each route's level, and none where it is too small") {
  const std::string text = rooms_as_json();
  PreparedMessage message(MessageType::text, as_bytes(text), 4);
  const auto send = [&](CompressionSettings settings) {
    End sender(Role::server, no_takeover, {.compression = settings});
    const std::string wire = sender.sent(message);
    CHECK(End(Role::client, no_takeover).receive(wire) == text + " ");
    return wire;
  };
  const std::string quick = send({.level = 1});
  CHECK(send({.level = 9}).size() < quick.size());
  CHECK(message.forms() == 2);
  CHECK(send({.message_bytes_min = text.size() + 1}).size() > text.size());
  CHECK(message.forms() == 3);
  CHECK(send({.level = 1}) == quick);
  CHECK(message.forms() == 3);
}

TEST_CASE("the frames of a large message for many are lent to all, and a small one's are copied") {
  ChunkPool chunks;
  const auto lent_from = [&](End& sender, PreparedMessage& message) -> const void* {
    ByteQueue out(chunks);
    const bool borrows = sender.protocol->send_prepared(message, out, true);
    iovec vectors[2];
    CHECK(out.peek(vectors, 2) == 1);
    CHECK(End(Role::client, no_takeover).receive(out.to_string()).size() ==
          message.payload().size() + 1);
    return borrows ? vectors[0].iov_base : nullptr;
  };
  End one(Role::server, no_takeover);
  End other(Role::server, no_takeover);
  const std::string large = random_text(60'000, 11, 16);
  PreparedMessage message(MessageType::text, as_bytes(large), 2);
  const void* const lent = lent_from(one, message);
  CHECK(lent != nullptr);
  CHECK(lent_from(other, message) == lent);
  // It is the frames that count, not what was compressed to them.
  const std::string repeated(60'000, 'x');
  PreparedMessage shrinks(MessageType::text, as_bytes(repeated), 2);
  CHECK(lent_from(one, shrinks) == nullptr);
  CHECK(lent_from(other, shrinks) == nullptr);
  ByteQueue out(chunks);
  CHECK_FALSE(one.protocol->send_prepared(message, out));  // who has not said that it may
  CHECK(out.to_string().size() > ByteQueue::borrowed_bytes_min);
}

TEST_CASE("RFC 7692 7.1.1: who keeps a context gets a message for many as a part of it") {
  const std::string text = random_text(3000, 9, 4);
  PreparedMessage message(MessageType::text, as_bytes(text), 3);
  ProtocolLimits limits;
  limits.compression.level = 6;
  End sender(Role::server, takeover, limits);
  End receiver(Role::client, takeover);
  const std::string first = sender.sent(message);
  const std::string again = sender.sent(message);
  CHECK(message.forms() == 0);
  CHECK(again.size() < first.size() / 10);  // it refers to the first
  CHECK(receiver.receive(first) == text + " ");
  CHECK(receiver.receive(again) == text + " ");
  CHECK(receiver.receive(sender.sent("after it")) == "after it ");
}

TEST_CASE("nothing prepared follows a Close frame, and a client masks what it sends") {
  PreparedMessage message(MessageType::text, as_bytes("Hello"), 2);
  ChunkPool chunks;
  ByteQueue out(chunks);
  const ProtocolLimits limits;
  Protocol client(Role::client, limits);
  client.send_prepared(message, out);
  CHECK(out.size() == 11);
  CHECK(message.forms() == 0);
  out.clear();
  Protocol server(Role::server, limits);
  server.send_close(1000, "", out);
  out.clear();
  server.send_prepared(message, out);
  CHECK(out.empty());
}

TEST_CASE("a relay's end passes compressed messages as they are, and validates only the others") {
  const ProtocolLimits limits;
  Protocol in(Role::client, limits, {.use = Compression::Use::pass});
  Protocol out(Role::server, limits, {.use = Compression::Use::pass});
  ChunkPool chunks;
  ByteQueue sent(chunks);
  const std::string wire =
      bytes({0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00}) +
      bytes({0x81, 0x02, 'h', 'i'}) + bytes({0xc1, 0x02, 0xff, 0xff});
  std::vector<std::uint8_t> input(wire.begin(), wire.end());
  in.receive(input);
  while (const auto event = in.next_event()) {
    REQUIRE(event->type == Event::Type::data);
    out.begin_frame(event->message_type, event->message_start, event->fin, event->frame_bytes, sent,
                    event->compressed);
    out.send_payload(event->payload, sent);
  }
  CHECK(sent.to_string() == wire);
}
