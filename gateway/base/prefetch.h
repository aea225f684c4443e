// prefetch(): memory that is needed in a moment is fetched into the caches meanwhile.
#pragma once

#include <cstddef>

namespace sluice {

// No access: what is there may be gone, as long as nobody needs it.
inline void prefetch(const void* start, std::size_t bytes) {
  constexpr std::size_t line_bytes = 64;
  for (std::size_t offset = 0; offset < bytes; offset += line_bytes) {
    __builtin_prefetch(static_cast<const std::byte*>(start) + offset);
  }
}

}  // namespace sluice
