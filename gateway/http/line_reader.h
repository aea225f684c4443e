// LineReader: the lines of which heads of responses, chunked bodies and trailers are made, out of
// bytes as they come (RFC 9112 2.2, to the letter). Without I/O.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "http/request.h"

namespace sluice::http {

// Only CRLF ends a line; no control character but the tab stands in one.
class LineReader {
 public:
  enum class Status { need_more, complete, too_long, malformed };

  // Takes bytes from the front of `input` up to the line's end. `bytes_max` is the longest line,
  // without its CRLF; no more than that is ever kept. After `complete`, the next call begins
  // another line; after too_long and malformed there is none.
  Status read(Bytes& input, std::size_t bytes_max);

  const std::string& line() const { return line_; }  // valid once complete, without its CRLF

 private:
  Status take(char c, std::size_t bytes_max);
  void take_run(Bytes& input, std::size_t bytes_max);

  std::string line_;
  bool complete_ = true;
  bool carriage_return_ = false;
};

// "Name: value" (RFC 9112 5): nothing if the name is no token, or white space stands before it or
// behind it, obs-fold included. The value is trimmed.
std::optional<Header> parse_field_line(std::string_view line);

}  // namespace sluice::http
