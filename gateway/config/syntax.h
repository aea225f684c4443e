// What single texts of routes.yaml must look like.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "config/keys.h"

namespace sluice::config {

inline constexpr std::size_t route_name_bytes_max = 128;
inline constexpr std::size_t upstream_name_bytes_max = 128;

// The text in the form in which Config holds it, or why it is none. Relative paths become relative
// to `base_dir`. Whether files exist, and whether plugins are declared, is not asked here.
Result<std::string> check_syntax(Syntax syntax, std::string_view text, const std::string& base_dir);

// What a text that passed as Syntax::hash_on means.
HashOn parse_hash_on(std::string_view text);

// Whether a text that passed as Syntax::upstream is an endpoint's address, and no name.
bool is_endpoint(std::string_view upstream);

// Whether only processes of this machine reach an address that passed as Syntax::address.
bool is_local(std::string_view address);

// Whether two addresses that passed check_syntax() cannot be listened on at the same time.
bool addresses_collide(std::string_view a, std::string_view b);

}  // namespace sluice::config
