#include "ws/message_assembler.h"

#include <algorithm>

namespace sluice::ws {

std::optional<Bytes> MessageAssembler::add(const Event& data) {
  if (data.message_start) buffer_.clear();
  append(data.payload);
  if (!data.message_end) return std::nullopt;
  return buffer_;
}

// Doubled, so that many small pieces cost one copy each on average, but not beyond the limit.
void MessageAssembler::append(Bytes piece) {
  const std::size_t size = buffer_.size() + piece.size();
  if (size > buffer_.capacity()) {
    std::uint64_t capacity = buffer_.capacity() * 2;
    if (bytes_max_ != 0) capacity = std::min(capacity, bytes_max_);
    buffer_.reserve(std::max(size, static_cast<std::size_t>(capacity)));
  }
  buffer_.insert(buffer_.end(), piece.begin(), piece.end());
}

}  // namespace sluice::ws
