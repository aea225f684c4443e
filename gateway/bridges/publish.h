// POST /publish/ of the admin listener: how backends send to the subscribers of a channel.
//
// The body is JSON, {"items": [...]} (bridges/grip.h). The answer is 200 with a receipt,
//   {"message":"Published","matched":3,"written":2,"queued":1,"dropped":0}
// or, for those who prefer text/plain, "Published". Otherwise: 400 with the reason, 401 without the
// key, 403 for requests that a web page may have sent, 405, 406, 413.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "bridges/channels.h"
#include "http/request.h"
#include "http/response.h"

namespace sluice::bridges {

inline constexpr std::size_t publish_bytes_max = 4 * 1024 * 1024;

// Why the request may not publish: 401, 403, 405 or 406; nothing if it may. A browser sends Origin
// with every POST, and a name that was bent to our address (DNS rebinding) shows in Host: it has to
// be an IP address, localhost or absent. Authorization is "Bearer <key>", "Bearer <JWT>" signed
// with the key, or Basic with the key as the password; an empty key asks for none.
std::optional<http::Response> refuse_publisher(const http::Request& request, std::string_view key,
                                               std::int64_t now_s);

http::Response published(const http::Request& request, const Receipt& receipt);

}  // namespace sluice::bridges
