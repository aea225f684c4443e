// MessageAssembler: the pieces of a message made whole.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "ws/protocol.h"

namespace sluice::ws {

// A message that arrives in one piece is passed through as a view of the receive buffer; one in
// several pieces is copied into one buffer, which grows with what was received, never with what a
// header announced. Holds no memory between messages once release() was called.
class MessageAssembler {
 public:
  // No more memory is taken than the longest message needs: the protocol's message_bytes_max, or 0.
  explicit MessageAssembler(std::uint64_t message_bytes_max = 0) : bytes_max_(message_bytes_max) {}

  // Takes a data event. Returns the whole message with its last piece; valid until the next add()
  // or release(), and no longer than the event's payload.
  std::optional<Bytes> add(const Event& data);
  // Gives the memory back, unless a message is unfinished. To be called when the message that add()
  // returned was handled.
  void release();
  // Bytes held, for whoever accounts for memory.
  std::size_t capacity() const { return buffer_.capacity(); }

 private:
  void append(Bytes piece);

  std::vector<std::uint8_t> buffer_;
  std::uint64_t bytes_max_;
  bool unfinished_ = false;
};

}  // namespace sluice::ws
