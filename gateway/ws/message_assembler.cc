#include "ws/message_assembler.h"

#include <algorithm>

namespace sluice::ws {

std::optional<Bytes> MessageAssembler::add(const Event& data) {
  if (data.message_start) buffer_.clear();
  if (data.frame_start) announced_ = buffer_.size() + data.frame_bytes;
  append(data.payload);
  if (!data.message_end) return std::nullopt;
  return buffer_;
}

void MessageAssembler::append(Bytes piece) {
  const std::size_t size = buffer_.size() + piece.size();
  if (size > buffer_.capacity()) buffer_.reserve(capacity_for(size));
  buffer_.insert(buffer_.end(), piece.begin(), piece.end());
}

// Doubled, so that many small pieces cost one copy each on average, but not beyond the limit; and
// for most messages at once what they need, so that nothing is copied again.
std::size_t MessageAssembler::capacity_for(std::size_t size) const {
  constexpr std::uint64_t believed_times = 4;
  std::uint64_t capacity = buffer_.capacity() * 2;
  if (announced_ <= believed_times * size) capacity = std::max(capacity, announced_);
  if (bytes_max_ != 0) capacity = std::min(capacity, bytes_max_);
  return std::max(size, static_cast<std::size_t>(capacity));
}

}  // namespace sluice::ws
