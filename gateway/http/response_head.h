// ResponseHead: the head of an upstream's response, as it was received.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/request.h"

namespace sluice::http {

// How the end of a message's body is found (RFC 9112 6.3).
struct BodyFraming {
  enum class Kind : std::uint8_t { none, length, chunked, until_close };
  Kind kind = Kind::none;
  std::uint64_t length = 0;
};

struct ResponseHead {
  int status = 0;
  std::string reason_phrase;
  int version_minor = 1;
  bool keep_alive = true;  // the connection may be used again once the body has ended
  BodyFraming framing;
  // What Content-Length says: the length of the body, or (HEAD, 304) of one that does not come.
  std::optional<std::uint64_t> content_length;
  std::vector<Header> headers;  // as received, in order; checked, values trimmed

  // As Request's.
  std::optional<std::string> header(std::string_view name) const;
  std::size_t count(std::string_view name) const;
  bool has_token(std::string_view name, std::string_view token) const;
};

}  // namespace sluice::http
