// MessageAssembler: the pieces of a message made whole.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "ws/protocol.h"

namespace sluice::ws {

// For messages in several pieces: they are copied into one buffer, which grows with what was
// received: what a header announces is believed up to four times of it. A message in one piece
// needs no assembler, and an idle connection has none.
class MessageAssembler {
 public:
  // No more memory is taken than the longest message needs: the protocol's message_bytes_max, or 0.
  explicit MessageAssembler(std::uint64_t message_bytes_max) : bytes_max_(message_bytes_max) {}

  // Takes a data event. Returns the whole message with its last piece; valid until the next add().
  std::optional<Bytes> add(const Event& data);

  std::size_t capacity() const { return buffer_.capacity(); }

 private:
  void append(Bytes piece);
  std::size_t capacity_for(std::size_t size) const;

  std::vector<std::uint8_t> buffer_;
  std::uint64_t announced_ = 0;  // where the present frame ends in the buffer
  std::uint64_t bytes_max_;
};

}  // namespace sluice::ws
