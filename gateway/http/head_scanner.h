// HeadScanner: the first reader of a request's head, stricter than llhttp.
//
// Where two readers disagree about a head, requests are smuggled. So every byte passes this grammar
// of RFC 9112 to the letter (CRLF and nothing else ends a line, one space and nothing else parts
// the request line), and is counted against the limits, before llhttp sees it. Nothing is stored.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"

namespace sluice::http {

// Caps on the head of a request.
struct ParserLimits {
  std::uint32_t headers_max;       // 431 above
  std::uint32_t head_bytes_max;    // 431 above; request line and line ends included
  std::uint32_t target_bytes_max;  // 414 above
};

// Why a request was refused. After any of them the connection is closed: nobody knows where the
// next request would begin.
struct RequestError {
  int status;           // 400, 414, 431, 501, 505
  std::string message;  // a short sentence, for the body and the log
};

class HeadScanner {
 public:
  explicit HeadScanner(const ParserLimits& limits) : limits_(limits) {}

  // Takes the empty lines before a request (RFC 9112 2.2); they are no part of it. Returns how many
  // bytes they were.
  std::size_t skip_empty_lines(Bytes bytes);
  // Takes bytes of the head. Returns how many passed: less than all when the head has ended or when
  // something is wrong.
  std::size_t scan(Bytes bytes);

  bool started() const { return state_ > State::empty_line; }
  bool done() const { return state_ == State::done; }
  const std::optional<RequestError>& error() const { return error_; }

 private:
  // What is expected next.
  enum class State : std::uint8_t {
    start,
    empty_line,  // the LF of one
    method,
    target,
    version,
    line_feed,  // after the CR of a line
    line,       // a field's first character, or the CR of the last line
    name,
    value,
    last_line_feed,
    done,
  };

  std::size_t take_run(Bytes bytes);
  void take(std::uint8_t byte);
  void take_start(std::uint8_t byte);
  void take_method(std::uint8_t byte);
  void take_target(std::uint8_t byte);
  void take_version(std::uint8_t byte);
  void take_line_feed(std::uint8_t byte, State next);
  void take_line(std::uint8_t byte);
  void take_name(std::uint8_t byte);
  void take_value(std::uint8_t byte);
  void check_version();
  void check_size();
  void fail(int status, const char* message) { error_ = RequestError{status, message}; }

  ParserLimits limits_;
  State state_ = State::start;
  std::uint32_t empty_lines_ = 0;
  std::uint32_t head_bytes_ = 0;
  std::uint32_t target_bytes_ = 0;
  std::uint32_t headers_ = 0;
  std::uint32_t word_bytes_ = 0;   // of the method, the version or the field's name
  std::array<char, 8> word_ = {};  // its first bytes
  std::optional<RequestError> error_;
};

}  // namespace sluice::http
