// Responses: what we answer when we do not upgrade, and how it looks on the wire (RFC 9112 4).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/request.h"

namespace sluice::http {

struct Response {
  int status = 200;
  // Without Content-Length, Transfer-Encoding and Connection: serialise() adds them, and Date
  // unless one is here, as a relayed response has. A field may come several times (Set-Cookie).
  std::vector<Header> headers;
  std::string body;
  // The length of a body that the caller sends after the head; `body` is empty then. For HEAD, the
  // length that it would have.
  std::optional<std::uint64_t> content_length;
  bool close = false;  // after this response the connection ends
  // The caller sends a body of unknown length after the head: in chunks, or (for HTTP/1.0) until it
  // closes the connection. `body` and `content_length` are empty then.
  bool chunked = false;
  bool until_close = false;
  // The upstream's, if any; otherwise the usual one.
  std::string reason_phrase = {};
};

// An IMF-fixdate (RFC 9110 5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT".
std::string http_date(std::int64_t unix_seconds);

// A refusal: the status, its phrase and why in one line, as text/plain that no browser takes for
// anything else.
Response refusal(int status, std::string_view message, std::vector<Header> headers = {});

// What the request and the connection have to say about the response.
struct ResponseContext {
  bool head = false;       // the request was HEAD: the body is described, not sent
  bool keep_alive = true;  // Request::keep_alive
  int version_minor = 1;   // Request::version_minor
  std::string_view date =
      {};  // http_date() of now, which the caller keeps for a second; empty: none
};

// Whether the connection is to be closed after the response.
bool closes(const Response& response, const ResponseContext& context);

// Head and body; 1xx, 204 and 304 have no body, and nothing that describes one. 1xx heads have only
// their own fields (101 with Upgrade also Connection). Fails, with nothing fit to be sent, if a
// field could be read as two lines or as another field (RFC 9110 5.5): its name is no token or its
// value has a control character. So has the reason phrase.
Result<std::string> serialise(const Response& response, const ResponseContext& context);

}  // namespace sluice::http
