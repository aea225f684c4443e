// Blocks: many bytes at once, in whatever registers the processor has for that.
//
// What is done with long runs of bytes is written once, for any size of block, and compiled twice:
// for every processor, and for those that has_wide_blocks() finds to be capable of more. A template
// that is always_inline takes the target of the function that it is called in.
#pragma once

#include <cstdint>
#include <cstring>

namespace sluice {

using Block = std::uint64_t __attribute__((vector_size(16)));
using WideBlock = std::uint64_t __attribute__((vector_size(32)));

#if defined(__x86_64__)
#define SLUICE_WIDE_BLOCKS [[gnu::target("avx2")]]
inline bool has_wide_blocks() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}
#else
#define SLUICE_WIDE_BLOCKS
constexpr bool has_wide_blocks() {
  return false;
}
#endif

// Fewer bytes are not worth the call.
constexpr std::size_t wide_bytes_min = 256;

// Whether each of the eight bytes is ASCII.
constexpr bool is_ascii(std::uint64_t bytes) {
  return (bytes & 0x8080808080808080) == 0;
}

// All bits that any word of the block has.
template <typename Any>
[[gnu::always_inline]] inline std::uint64_t bits_of(const Any& block) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < sizeof(block) / sizeof(bits); ++i) bits |= block[i];
  return bits;
}

}  // namespace sluice
