// Block: sixteen bytes at once, in whatever registers the processor has for that.
#pragma once

#include <cstdint>
#include <cstring>

namespace sluice {

using Block = std::uint64_t __attribute__((vector_size(16)));

inline Block load_block(const std::uint8_t* bytes) {
  Block block;
  std::memcpy(&block, bytes, sizeof(block));
  return block;
}

inline void store_block(Block block, std::uint8_t* bytes) {
  std::memcpy(bytes, &block, sizeof(block));
}

// Whether each of the eight bytes is ASCII.
constexpr bool is_ascii(std::uint64_t bytes) {
  return (bytes & 0x8080808080808080) == 0;
}

}  // namespace sluice
