// The frame table: what a peer may send, right and wrong, and what comes of it. Made with none of
// the code under test. Each case exists for both roles.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "unit/ws/transcript.h"
#include "ws/protocol.h"

namespace sluice::ws::test {

// A frame as a peer would send it to `receiver`, with every mistake that a peer can make.
struct RawFrame {
  int opcode = 1;
  std::string payload = {};
  bool fin = true;
  int reserved_bits = 0;       // 4: RSV1, 2: RSV2, 1: RSV3
  int length_bytes = 0;        // of the extended length; 0: the minimal form
  std::uint64_t length = 0;    // announced in its place if length_bytes is not 0 and this is not
  bool wrong_masking = false;  // masked from a server, not masked from a client
};

inline constexpr std::string_view raw_mask = "\x37\xfa\x21\x3d";

inline std::string raw_frame(Role receiver, const RawFrame& frame) {
  const bool masked = (receiver == Role::server) != frame.wrong_masking;
  const std::uint64_t length = frame.length != 0 ? frame.length : frame.payload.size();
  const int extended = frame.length_bytes != 0 ? frame.length_bytes
                       : length < 126          ? 0
                       : length < 65536        ? 2
                                               : 8;
  std::string bytes;
  bytes += static_cast<char>((frame.fin ? 0x80 : 0) | frame.reserved_bits << 4 | frame.opcode);
  const int code = extended == 0 ? static_cast<int>(length) : extended == 2 ? 126 : 127;
  bytes += static_cast<char>((masked ? 0x80 : 0) | code);
  for (int i = extended - 1; i >= 0; --i) bytes += static_cast<char>(length >> (8 * i));
  if (masked) bytes += raw_mask;
  for (std::size_t i = 0; i < frame.payload.size(); ++i) {
    bytes += static_cast<char>(masked ? frame.payload[i] ^ raw_mask[i % 4] : frame.payload[i]);
  }
  return bytes;
}

inline std::string quoted_text(std::string_view text) {
  return quoted(as_bytes(text));
}

struct FrameCase {
  std::string name;
  std::string before;                 // frames that are right
  std::string frame;                  // the frame that the case is about, and what follows it
  std::vector<std::string> expected;  // lines of a Transcript
  // The failure is told when that many bytes of `frame` are there, and not before; 0: none is.
  std::size_t fails_at = 0;
  ProtocolLimits limits;
};

class FrameCases {
 public:
  explicit FrameCases(Role receiver) : receiver_(receiver) {
    add_whole_messages();
    add_fragments();
    add_control_frames();
    add_wrong_first_bytes();
    add_wrong_second_bytes();
    add_wrong_lengths();
    add_limits();
    add_close_frames();
    add_utf8();
    add_unfinished();
  }

  const std::vector<FrameCase>& all() const { return cases_; }

 private:
  std::string raw(const RawFrame& frame) const { return raw_frame(receiver_, frame); }
  // Bytes of a header with a payload of less than 126 bytes.
  std::size_t short_header() const { return receiver_ == Role::server ? 6 : 2; }

  void accept(std::string name, std::string frame, std::vector<std::string> expected) {
    cases_.push_back({std::move(name), "", std::move(frame), std::move(expected), 0, {}});
  }
  void refuse(std::string name, std::string before, std::string frame, std::size_t fails_at,
              std::vector<std::string> expected, ProtocolLimits limits = {}) {
    cases_.push_back({std::move(name), std::move(before), std::move(frame), std::move(expected),
                      fails_at, limits});
  }

  void add_whole_messages() {
    accept("text (RFC 6455 5.6)", raw({.opcode = 1, .payload = "Hello"}),
           {"text(5) start end \"Hello\""});
    accept("binary (RFC 6455 5.6)", raw({.opcode = 2, .payload = std::string("\0\xff", 2)}),
           {"binary(2) start end \"\\x00\\xff\""});
    accept("text without payload (RFC 6455 5.6)", raw({.opcode = 1}), {"text(0) start end \"\""});
    accept("binary without payload (RFC 6455 5.6)", raw({.opcode = 2}),
           {"binary(0) start end \"\""});
    accept("several messages one after the other (RFC 6455 5.6)",
           raw({.opcode = 1, .payload = "a"}) + raw({.opcode = 2}) +
               raw({.opcode = 1, .payload = "bcd"}) + raw({.opcode = 2, .payload = "e"}),
           {"text(1) start end \"a\"", "binary(0) start end \"\"", "text(3) start end \"bcd\"",
            "binary(1) start end \"e\""});
    for (const std::size_t size :
         {1U,   2U,   3U,   4U,   5U,   7U,   8U,   9U,   31U,    32U,    33U,
          124U, 125U, 126U, 127U, 128U, 255U, 256U, 257U, 65535U, 65536U, 65537U}) {
      std::string payload;
      for (std::size_t i = 0; i < size; ++i) payload += static_cast<char>('A' + i % 53);
      accept(std::to_string(size) + " bytes (RFC 6455 5.2)", raw({.opcode = 2, .payload = payload}),
             {"binary(" + std::to_string(size) + ") start end " + quoted_text(payload)});
    }
  }

  void add_fragments() {
    accept("two fragments (RFC 6455 5.4)",
           raw({.opcode = 1, .payload = "Hel", .fin = false}) + raw({.opcode = 0, .payload = "lo"}),
           {"text(3) start \"Hel\"", "text(2) end \"lo\""});
    accept("fragments without payload (RFC 6455 5.4)",
           raw({.opcode = 2, .fin = false}) + raw({.opcode = 0, .fin = false}) + raw({.opcode = 0}),
           {"binary(0) start \"\"", "binary(0) \"\"", "binary(0) end \"\""});
    accept("control frames between fragments (RFC 6455 5.4, 5.5)",
           raw({.opcode = 1, .payload = "Hel", .fin = false}) +
               raw({.opcode = 9, .payload = "ping"}) + raw({.opcode = 10}) +
               raw({.opcode = 0, .payload = "lo"}),
           {"text(3) start \"Hel\"", "ping \"ping\"", "pong \"\"", "text(2) end \"lo\""});
    accept("a new message after a fragmented one (RFC 6455 5.4)",
           raw({.opcode = 1, .payload = "a", .fin = false}) + raw({.opcode = 0, .payload = "b"}) +
               raw({.opcode = 2, .payload = "c"}),
           {"text(1) start \"a\"", "text(1) end \"b\"", "binary(1) start end \"c\""});
    accept("Close between fragments (RFC 6455 5.4, 5.5.1)",
           raw({.opcode = 1, .payload = "a", .fin = false}) +
               raw({.opcode = 8, .payload = "\x03\xe8"}),
           {"text(1) start \"a\"", "close 1000 \"\""});
  }

  void add_control_frames() {
    accept("ping without payload (RFC 6455 5.5.2)", raw({.opcode = 9}), {"ping \"\""});
    accept("pong nobody asked for (RFC 6455 5.5.3)", raw({.opcode = 10, .payload = "x"}),
           {"pong \"x\""});
    const std::string full(125, 'p');
    accept("ping of 125 bytes (RFC 6455 5.5)", raw({.opcode = 9, .payload = full}),
           {"ping \"" + full + "\""});
    std::string flood;
    std::vector<std::string> expected;
    for (int i = 0; i < 50; ++i) {
      flood += raw({.opcode = 9, .payload = std::string(125, static_cast<char>('0' + i))});
      expected.push_back("ping " + quoted_text(std::string(125, static_cast<char>('0' + i))));
    }
    accept("many pings of 125 bytes, each told (RFC 6455 5.5.2)", flood, expected);
  }

  void add_wrong_first_bytes() {
    for (const int bits : {1, 2, 3, 4, 5, 6, 7}) {
      for (const int opcode : {0, 1, 2, 8, 9, 10}) {
        refuse("RSV bits " + std::to_string(bits) + " with opcode " + std::to_string(opcode) +
                   " (RFC 6455 5.2)",
               "", raw({.opcode = opcode, .reserved_bits = bits}), 1,
               {"failure 1002 \"reserved bits are set\""});
      }
    }
    for (const int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
      for (const bool fin : {true, false}) {
        refuse("reserved opcode " + std::to_string(opcode) + " (RFC 6455 5.2)", "",
               raw({.opcode = opcode, .fin = fin}), 1, {"failure 1002 \"reserved opcode\""});
      }
    }
    for (const int opcode : {8, 9, 10}) {
      refuse("fragmented control frame " + std::to_string(opcode) + " (RFC 6455 5.5)", "",
             raw({.opcode = opcode, .fin = false}), 1,
             {"failure 1002 \"fragmented control frame\""});
    }
    for (const bool fin : {true, false}) {
      refuse("continuation of nothing (RFC 6455 5.4)", "",
             raw({.opcode = 0, .payload = "x", .fin = fin}), 1,
             {"failure 1002 \"continuation without a message\""});
      refuse("continuation after a whole message (RFC 6455 5.4)",
             raw({.opcode = 1, .payload = "a"}), raw({.opcode = 0, .payload = "x", .fin = fin}), 1,
             {"text(1) start end \"a\"", "failure 1002 \"continuation without a message\""});
    }
    for (const int opcode : {1, 2}) {
      refuse("new message inside a fragmented one, opcode " + std::to_string(opcode) +
                 " (RFC 6455 5.4)",
             raw({.opcode = 1, .payload = "a", .fin = false}),
             raw({.opcode = opcode, .payload = "b"}), 1,
             {"text(1) start \"a\"", "failure 1002 \"new message inside a fragmented one\""});
    }
  }

  void add_wrong_second_bytes() {
    const std::string reason = receiver_ == Role::server ? "frame from a client is not masked"
                                                         : "frame from a server is masked";
    for (const int opcode : {1, 2, 8, 9, 10}) {
      for (const std::size_t size : {0U, 2U, 125U}) {
        refuse("masking of the wrong role, opcode " + std::to_string(opcode) + " (RFC 6455 5.1)",
               "",
               raw({.opcode = opcode, .payload = std::string(size, 'x'), .wrong_masking = true}), 2,
               {"failure 1002 \"" + reason + "\""});
      }
    }
    for (const int opcode : {8, 9, 10}) {
      for (const std::size_t size : {126U, 65535U, 65536U}) {
        refuse("control frame of " + std::to_string(size) + " bytes, opcode " +
                   std::to_string(opcode) + " (RFC 6455 5.5)",
               "", raw({.opcode = opcode, .payload = std::string(size, 'x')}), 2,
               {"failure 1002 \"control frame over 125 bytes\""});
      }
      refuse("short control frame in a long form, opcode " + std::to_string(opcode) +
                 " (RFC 6455 5.5)",
             "", raw({.opcode = opcode, .payload = "xx", .length_bytes = 2}), 2,
             {"failure 1002 \"control frame over 125 bytes\""});
    }
    refuse("Close frame of one byte (RFC 6455 5.5.1)", "", raw({.opcode = 8, .payload = "\x03"}), 2,
           {"failure 1002 \"Close frame of one byte\""});
  }

  void add_wrong_lengths() {
    const std::string not_minimal = "failure 1002 \"payload length is not minimal\"";
    for (const std::uint64_t length : {0U, 1U, 125U}) {
      refuse(std::to_string(length) + " bytes announced in 16 bits (RFC 6455 5.2)", "",
             raw({.payload = std::string(length, 'x'), .length_bytes = 2}), 4, {not_minimal});
    }
    for (const std::uint64_t length : {0U, 1U, 125U, 126U, 65535U}) {
      refuse(std::to_string(length) + " bytes announced in 64 bits (RFC 6455 5.2)", "",
             raw({.payload = std::string(length, 'x'), .length_bytes = 8}), 10, {not_minimal});
    }
    for (const std::uint64_t length : {UINT64_C(1) << 63, UINT64_MAX}) {
      refuse("length with the top bit set (RFC 6455 5.2)", "",
             raw({.opcode = 2, .length_bytes = 8, .length = length}), 3,
             {"failure 1002 \"payload length over 63 bits\""}, {.message_bytes_max = 1000});
    }
  }

  void add_limits() {
    const std::string too_big = "failure 1009 \"message too big\"";
    const ProtocolLimits limits{.message_bytes_max = 70000, .fragments_max = 3};
    const std::uint64_t int_max = 0x7FFFFFFF;
    for (const std::uint64_t length : {UINT64_C(70001), int_max - 1, int_max, int_max + 1,
                                       2 * int_max + 1, 2 * int_max + 2, UINT64_MAX >> 1}) {
      refuse("a message of " + std::to_string(length) + " bytes, over the limit (RFC 6455 10.4)",
             "", raw({.opcode = 2, .length_bytes = 8, .length = length}), 10, {too_big}, limits);
    }
    refuse("one byte over the limit in a small frame (RFC 6455 10.4)", "",
           raw({.opcode = 2, .payload = "123456"}), 2, {too_big}, {.message_bytes_max = 5});
    refuse("one byte over the limit with a length of 16 bits (RFC 6455 10.4)", "",
           raw({.opcode = 2, .payload = std::string(1001, 'x')}), 4, {too_big},
           {.message_bytes_max = 1000});
    refuse("exactly the limit (RFC 6455 10.4)", "", raw({.opcode = 2, .payload = "12345"}), 0,
           {"binary(5) start end \"12345\""}, {.message_bytes_max = 5});
    refuse("fragments over the limit together (RFC 6455 10.4)",
           raw({.opcode = 2, .payload = "123", .fin = false}),
           raw({.opcode = 0, .payload = "456", .fin = false}), 2,
           {"binary(3) start \"123\"", too_big}, {.message_bytes_max = 5});
    refuse("each message begins its own count (RFC 6455 10.4)",
           raw({.opcode = 2, .payload = "123", .fin = false}) + raw({.opcode = 0, .payload = "45"}),
           raw({.opcode = 2, .payload = "12345"}), 0,
           {"binary(3) start \"123\"", "binary(2) end \"45\"", "binary(5) start end \"12345\""},
           {.message_bytes_max = 5, .fragments_max = 2});
    refuse("control frames do not count for the message (RFC 6455 10.4)",
           raw({.opcode = 2, .payload = "123", .fin = false}) +
               raw({.opcode = 9, .payload = std::string(99, 'p')}),
           raw({.opcode = 0, .payload = "45"}), 0,
           {"binary(3) start \"123\"", "ping \"" + std::string(99, 'p') + "\"",
            "binary(2) end \"45\""},
           {.message_bytes_max = 5, .fragments_max = 2});
    for (const std::string& payload : {std::string(), std::string("x")}) {
      const bool empty = payload.empty();
      const std::string first = empty ? "text(0) start \"\"" : "text(1) start \"x\"";
      const std::string next = empty ? "text(0) \"\"" : "text(1) \"x\"";
      refuse(empty ? "one empty fragment too many (RFC 6455 10.4)"
                   : "one fragment too many (RFC 6455 10.4)",
             raw({.opcode = 1, .payload = payload, .fin = false}) +
                 raw({.opcode = 0, .payload = payload, .fin = false}) +
                 raw({.opcode = 0, .payload = payload, .fin = false}),
             raw({.opcode = 0, .payload = payload, .fin = false}), 1,
             {first, next, next, "failure 1008 \"too many fragments\""}, limits);
    }
  }

  void add_close_frames() {
    accept("Close without body (RFC 6455 5.5.1, 7.1.5)", raw({.opcode = 8}), {"close 1005 \"\""});
    accept("Close with a code (RFC 6455 5.5.1)", raw({.opcode = 8, .payload = "\x03\xe8"}),
           {"close 1000 \"\""});
    accept("Close with a reason (RFC 6455 5.5.1)",
           raw({.opcode = 8,
                .payload = "\x0f\xa1"
                           "bye"}),
           {"close 4001 \"bye\""});
    const std::string reason(123, 'r');
    accept("Close with 123 bytes of reason (RFC 6455 5.5)",
           raw({.opcode = 8, .payload = "\x03\xe8" + reason}), {"close 1000 \"" + reason + "\""});
    accept("everything after Close is ignored (RFC 6455 1.4)",
           raw({.opcode = 8, .payload = "\x03\xe8"}) + raw({.opcode = 1, .payload = "x"}) +
               raw({.opcode = 9}) + "\xff\xff\xff nonsense",
           {"close 1000 \"\""});
    refuse("everything after a failure is ignored (RFC 6455 7.1.7)", "",
           "\xff" + raw({.opcode = 1, .payload = "x"}), 1,
           {"failure 1002 \"reserved bits are set\""});
    refuse("Close with an undefined code (RFC 6455 7.4)", "",
           raw({.opcode = 8,
                .payload = "\x03\xe7"
                           "bye"}),
           short_header() + 5, {"failure 1002 \"invalid close code\""});
    const std::string not_utf8 = "failure 1007 \"close reason is not valid UTF-8\"";
    refuse("Close with a reason that is not UTF-8 (RFC 6455 8.1)", "",
           raw({.opcode = 8,
                .payload = "\x03\xe8"
                           "bye\xff"}),
           short_header() + 6, {not_utf8});
    refuse("Close with a reason that ends inside a character (RFC 6455 8.1)", "",
           raw({.opcode = 8, .payload = "\x03\xe8\xe4\xbd"}), short_header() + 4, {not_utf8});
    refuse("an invalid code comes before an invalid reason (RFC 6455 7.4)", "",
           raw({.opcode = 8, .payload = std::string("\x00\x00\xff", 3)}), short_header() + 3,
           {"failure 1002 \"invalid close code\""});
  }

  void add_utf8() {
    const std::string not_utf8 = "failure 1007 \"text is not valid UTF-8\"";
    const std::string hello = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";  // 11 bytes of Greek
    accept("Greek (RFC 6455 8.1)", raw({.payload = hello}),
           {"text(11) start end " + quoted_text(hello)});
    accept("a character cut by a fragment (RFC 6455 8.1)",
           raw({.payload = "\xe4\xbd", .fin = false}) + raw({.opcode = 0, .payload = "\xa0"}),
           {"text(2) start \"\\xe4\\xbd\"", "text(1) end \"\\xa0\""});
    accept("a character cut by fragments and a ping (RFC 6455 5.4, 8.1)",
           raw({.payload = "\xf0\x9f", .fin = false}) + raw({.opcode = 9, .payload = "\xff"}) +
               raw({.opcode = 0, .fin = false}) + raw({.opcode = 0, .payload = "\x98\x80"}),
           {"text(2) start \"\\xf0\\x9f\"", "ping \"\\xff\"", "text(0) \"\"",
            "text(2) end \"\\x98\\x80\""});
    accept("binary is not looked at (RFC 6455 5.6)", raw({.opcode = 2, .payload = "\xff\xc0"}),
           {"binary(2) start end \"\\xff\\xc0\""});
    refuse("a surrogate, failed at its second byte inside the frame (RFC 6455 8.1)", "",
           raw({.payload = hello + "\xed\xa0\x80"
                                   "edited"}),
           short_header() + 13, {not_utf8});
    refuse("over U+10FFFF, failed at its second byte inside the frame (RFC 6455 8.1)", "",
           raw({.payload = hello + "\xf4\x90\x80\x80"
                                   "edited"}),
           short_header() + 13, {not_utf8});
    refuse("overlong, failed at its first byte inside the frame (RFC 6455 8.1)", "",
           raw({.payload = hello + "\xc0\xaf"
                                   "edited"}),
           short_header() + 12, {not_utf8});
    refuse("failed in the second fragment, before its end (RFC 6455 8.1)",
           raw({.payload = hello + "\xf4", .fin = false}),
           raw({.opcode = 0, .payload = "\x90\x80\x80", .fin = false}), short_header() + 1,
           {"text(12) start " + quoted_text(hello + "\xf4"), not_utf8});
    refuse("a message that ends inside a character (RFC 6455 8.1)", "",
           raw({.payload = hello + "\xe4\xbd"}), short_header() + 13, {not_utf8});
    refuse("a message whose last, empty fragment comes inside a character (RFC 6455 8.1)",
           raw({.payload = "\xe4\xbd", .fin = false}), raw({.opcode = 0}), short_header(),
           {"text(2) start \"\\xe4\\xbd\"", not_utf8});
    refuse("a message is not valid because the next one would complete it (RFC 6455 8.1)", "",
           raw({.payload = "\xe4"}) + raw({.payload = "\xbd\xa0"}), short_header() + 1, {not_utf8});
  }

  void add_unfinished() {
    accept("nothing", "", {});
    accept("one byte of a header", "\x81", {"receiving"});
    accept("an unfinished frame (RFC 6455 5.2)",
           raw({.opcode = 2, .payload = "12345", .length_bytes = 8, .length = 4294967296}),
           {"unfinished binary(5) start \"12345\"", "in message", "receiving"});
    accept("a header without its payload (RFC 6455 5.2)",
           raw({.opcode = 2, .length_bytes = 2, .length = 300}), {"in message", "receiving"});
    accept("an unfinished message (RFC 6455 5.4)", raw({.payload = "a", .fin = false}),
           {"text(1) start \"a\"", "in message", "receiving"});
    const std::string ping = raw({.opcode = 9, .payload = "1234567890"});
    accept("an unfinished ping (RFC 6455 5.5.2)", ping.substr(0, ping.size() - 1), {"receiving"});
    const std::string close = raw({.opcode = 8, .payload = "\x03\xe8"});
    accept("an unfinished Close (RFC 6455 5.5.1)", close.substr(0, close.size() - 2),
           {"receiving"});
  }

  Role receiver_;
  std::vector<FrameCase> cases_;
};

}  // namespace sluice::ws::test
