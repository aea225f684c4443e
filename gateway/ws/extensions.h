// Sec-WebSocket-Extensions (RFC 6455 9.1): what a client offers, what a server agrees to. Pure
// functions, linear in the size of their input whatever it contains.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::ws {

struct ExtensionParameter {
  std::string name;
  std::optional<std::string> value;  // a token, without the quotes that it may have stood in
};

struct Extension {
  std::string name;
  std::vector<ExtensionParameter> parameters;
};

// Those behind are not looked at: nobody offers as many.
inline constexpr std::size_t extensions_max = 8;

// The elements of the list, at most extensions_max, in the order of preference. Nothing if the
// field does not follow the grammar: then the handshake is to be failed.
std::optional<std::vector<Extension>> parse_extensions(std::string_view field);

// As a field's value: "permessage-deflate; client_max_window_bits=12".
std::string to_string(const Extension& extension);

}  // namespace sluice::ws
