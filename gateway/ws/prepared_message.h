// PreparedMessage: a message for many receivers, which is framed once, and compressed once for all
// that have agreed on the same (RFC 7692).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/message_type.h"

namespace sluice::ws {

class PreparedMessage {
 public:
  // The payload, valid UTF-8 if it is text, outlives the message.
  PreparedMessage(MessageType type, Bytes payload, std::size_t receivers)
      : type_(type), payload_(payload), receivers_(receivers) {}
  PreparedMessage(const PreparedMessage&) = delete;
  PreparedMessage& operator=(const PreparedMessage&) = delete;

  MessageType type() const { return type_; }
  Bytes payload() const { return payload_; }

  // So many receivers that it should leave for each at once: by the end of the turn all of them
  // would hold a chunk of output (base/byte_queue.h), many times what the pool keeps.
  bool leaves_at_once() const { return receivers_ > receivers_of_a_turn; }

  // For how many of its receivers frames had to be made: the fewer the better.
  std::size_t forms() const { return forms_.size(); }

 private:
  friend class Protocol;
  static constexpr std::size_t receivers_of_a_turn = 32;

  // What decides how the frames look.
  struct Terms {
    std::uint8_t window_bits = 0;  // 0: not compressed
    std::uint8_t level = 0;
    bool operator==(const Terms&) const = default;
  };
  struct Form {
    Terms terms;
    std::vector<std::uint8_t> frames;
    std::uint64_t compressed_bytes = 0;  // of the payloads in them
  };

  const MessageType type_;
  const Bytes payload_;
  const std::size_t receivers_;
  std::vector<Form> forms_;  // few: windows are 8 to 15
};

}  // namespace sluice::ws
