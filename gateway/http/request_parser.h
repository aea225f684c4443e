// RequestParser: the head of an HTTP/1.1 request, out of bytes as they come. Without I/O.
//
// Two readers must agree: HeadScanner, which is strict, and llhttp, which splits the head up. What
// both accept is then held against the rules that span fields (RFC 9112 3.2 and 6.3). How the bytes
// were cut into pieces makes no difference to the outcome, and the time is linear in their number.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "http/head_scanner.h"
#include "http/request.h"

struct llhttp__internal_s;

namespace sluice::http {

class RequestParser {
 public:
  explicit RequestParser(const ParserLimits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  enum class Status { need_more, complete, error };

  // Takes bytes up to the end of the head at most, and says how many it took: what follows (the
  // first frame, a body, the next request) is the caller's. Once the status is not need_more, it
  // stays and nothing more is taken until reset().
  Status feed(Bytes bytes, std::size_t& consumed);

  // A byte of this request has arrived. Empty lines before it do not count.
  bool started() const { return scanner_.started(); }

  // Valid once complete. `path`, `host` and the other fields are checked and normalised.
  const Request& request() const { return request_; }
  // Valid after an error. The connection is to be closed once the answer has been sent.
  const RequestError& error() const { return *error_; }

  // Forgets the request, for the next one on the connection.
  void reset();

 private:
  struct Callbacks;

  Status status() const;
  void parse(Bytes bytes);
  void finish();

  ParserLimits limits_;
  HeadScanner scanner_;
  std::unique_ptr<llhttp__internal_s> llhttp_;
  bool name_complete_ = false;  // of the last field: the next piece of a name begins another
  Request request_;
  std::optional<RequestError> error_;
};

}  // namespace sluice::http
