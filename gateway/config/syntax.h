// What single texts of routes.yaml must look like.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "config/keys.h"

namespace sluice::config {

inline constexpr std::size_t route_name_bytes_max = 128;

// The text in the form in which Config holds it, or why it is none. Relative paths become relative
// to `base_dir`. Whether files exist, and whether plugins are declared, is not asked here.
Result<std::string> check_syntax(Syntax syntax, std::string_view text, const std::string& base_dir);

// Whether two addresses that passed check_syntax() cannot be listened on at the same time.
bool addresses_collide(std::string_view a, std::string_view b);

}  // namespace sluice::config
