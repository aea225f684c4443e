// The token file of a tcp route, in the format of websockify's TokenFile: one "token: host:port" a
// line. Pure.
//
//   # a comment
//   ward-3: 10.0.0.5:5901
//   lab: [fd00::7]:5901
//   desk: unix_socket:/run/vnc.sock
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::bridges {

// From a token to an address as routes.yaml writes it: "10.0.0.5:5901", "[fd00::7]:5901",
// "unix:/run/vnc.sock".
using Tokens = std::map<std::string, std::string, std::less<>>;

// Of a token that stands there twice the last line counts, as for websockify. What it would leave
// out is an error here, which names the line.
Result<Tokens> parse_tokens(std::string_view text);

}  // namespace sluice::bridges
