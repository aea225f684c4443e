// Text as people read and mistype it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::config {

// The offset of the first byte that is not UTF-8 (RFC 3629), or nothing.
std::optional<std::size_t> invalid_utf8_at(std::string_view text);

bool has_control(std::string_view text);

// In quotes, control characters escaped, cut when long: fit to stand in an error message.
std::string in_quotes(std::string_view text);

// "a", "b" or "c"
std::string alternatives(const std::vector<std::string_view>& words);

// The word that was probably meant, or nothing if none is near.
std::optional<std::string_view> nearest(std::string_view mistyped,
                                        const std::vector<std::string_view>& words);

}  // namespace sluice::config
