// Sizes and durations as people write them: "64KiB", "30s".
//
// Nothing here rounds or wraps: what does not fit in 64 bits is an error (`number_too_large`), and
// so is a fraction.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice {

inline constexpr std::string_view number_too_large = "the number is too large";

// Bytes. A whole number followed at once by B, KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB,
// TB (powers of 1000); a number alone is bytes. Upper and lower case count.
Result<std::uint64_t> parse_size(std::string_view text);

// Milliseconds. A whole number followed at once by ms, s, m, h or d. A number alone is an error,
// because it leaves the unit to guess; only "0" needs none.
Result<std::uint64_t> parse_duration(std::string_view text);

// The shortest exact form that the parsers read back: "64KiB", "1000B", "90s", "0".
std::string format_size(std::uint64_t bytes);
std::string format_duration(std::uint64_t ms);

}  // namespace sluice
