// ResponseParser: the head of an HTTP/1.x response, out of bytes as they come. Without I/O.
//
// As strict as RequestParser: an upstream that can be misunderstood is an upstream whose responses
// can be smuggled. The outcome does not depend on how the bytes were cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "http/response_head.h"

namespace sluice::http {

struct ResponseLimits {
  std::uint32_t headers_max = 256;
  std::uint32_t head_bytes_max = 64 * 1024;
};

class ResponseParser {
 public:
  explicit ResponseParser(const ResponseLimits& limits = {});
  ~ResponseParser();
  ResponseParser(const ResponseParser&) = delete;
  ResponseParser& operator=(const ResponseParser&) = delete;

  enum class Status { need_more, complete, error };

  // The next head answers a request with this method (HEAD has a say in the framing, RFC 9112 6.3;
  // the gateway never sends CONNECT). Forgets the last one.
  void expect(std::string_view request_method);
  // Takes bytes up to the end of the head at most, and says how many. 1xx heads are heads like
  // others: call expect() again after one.
  Status feed(Bytes bytes, std::size_t& consumed);

  const ResponseHead& head() const;  // valid once complete
  const std::string& error() const;  // valid after an error: a short sentence for the log

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::http
