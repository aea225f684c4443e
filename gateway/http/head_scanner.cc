#include "http/head_scanner.h"

#include <algorithm>
#include <string_view>

#include "base/field.h"

namespace sluice::http {
namespace {

// RFC 9112 2.2 asks for "at least one"; a client that sends more than a few is not meaning well.
constexpr std::uint32_t empty_lines_max = 4;

constexpr std::uint8_t tls_handshake_record = 0x16;  // RFC 8446 5.1

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

std::size_t HeadScanner::skip_empty_lines(Bytes bytes) {
  std::size_t size = 0;
  while (size < bytes.size() && !started() && !error_) {
    const bool line_end = bytes[size] == '\r' || bytes[size] == '\n';
    if (state_ == State::start && !line_end) break;
    take_start(bytes[size]);
    if (!error_) ++size;
  }
  return size;
}

std::size_t HeadScanner::scan(Bytes bytes) {
  std::size_t size = 0;
  while (size < bytes.size() && !done() && !error_) {
    if (state_ == State::value) size += take_run(bytes.subspan(size));
    if (size == bytes.size()) break;
    take(bytes[size]);
    if (!error_) ++size;
  }
  return size;
}

// Most of a head is values of fields: the bytes that take_value() would let pass, at once. Returns
// how many.
std::size_t HeadScanner::take_run(Bytes bytes) {
  const std::string_view text = as_text(
      bytes.first(std::min<std::size_t>(bytes.size(), limits_.head_bytes_max - head_bytes_)));
  const auto* const end =
      std::find_if(text.begin(), text.end(), [](char c) { return is_control(c); });
  const auto count = static_cast<std::uint32_t>(end - text.begin());
  head_bytes_ += count;
  return count;
}

void HeadScanner::take(std::uint8_t byte) {
  ++head_bytes_;
  check_size();
  if (error_) return;
  switch (state_) {
    case State::start:
    case State::method:
      return take_method(byte);
    case State::target:
      return take_target(byte);
    case State::version:
      return take_version(byte);
    case State::line_feed:
      return take_line_feed(byte, State::line);
    case State::line:
      return take_line(byte);
    case State::name:
      return take_name(byte);
    case State::value:
      return take_value(byte);
    case State::last_line_feed:
      return take_line_feed(byte, State::done);
    case State::empty_line:
    case State::done:
      return;
  }
}

void HeadScanner::check_size() {
  if (head_bytes_ <= limits_.head_bytes_max) return;
  if (state_ == State::target) return fail(414, "the request's target is too long");
  fail(431, "the request's head is too large");
}

// RFC 9112 2.2: a server should ignore an empty line before the request line.
void HeadScanner::take_start(std::uint8_t byte) {
  if (state_ == State::start && byte == '\r' && ++empty_lines_ <= empty_lines_max) {
    state_ = State::empty_line;
  } else if (state_ == State::empty_line && byte == '\n') {
    state_ = State::start;
  } else {
    fail(400, "a request line was expected");
  }
}

// RFC 9112 3: request-line = method SP request-target SP HTTP-version.
void HeadScanner::take_method(std::uint8_t byte) {
  const bool first = state_ == State::start;
  state_ = State::method;
  if (first && byte == tls_handshake_record) {
    return fail(400, "this port speaks plain HTTP, not TLS");
  }
  if (byte == ' ' && word_bytes_ > 0) {
    const std::string_view method(word_.data(), std::min<std::size_t>(word_bytes_, word_.size()));
    // RFC 9110 9.3.6: an origin server need not implement CONNECT.
    if (word_bytes_ == 7 && method == "CONNECT")
      return fail(501, "this server is no forward proxy");
    state_ = State::target;
    return;
  }
  if (!is_token_char(static_cast<char>(byte))) return fail(400, "this is not an HTTP request");
  if (word_bytes_ < word_.size()) word_[word_bytes_] = static_cast<char>(byte);
  ++word_bytes_;
}

void HeadScanner::take_target(std::uint8_t byte) {
  if (byte == ' ' && target_bytes_ > 0) {
    word_bytes_ = 0;
    state_ = State::version;
    return;
  }
  if (byte <= ' ' || byte >= 0x7f)
    return fail(400, "the target has a character that is not allowed");
  if (++target_bytes_ > limits_.target_bytes_max) fail(414, "the request's target is too long");
}

// RFC 9112 2.3: HTTP-version = "HTTP" "/" DIGIT "." DIGIT, in capitals.
void HeadScanner::take_version(std::uint8_t byte) {
  if (word_bytes_ == word_.size()) {
    if (byte != '\r') return fail(400, "the request line has no proper end");
    state_ = State::line_feed;
    return;
  }
  const char c = static_cast<char>(byte);
  constexpr std::string_view shape = "HTTP/0.0";
  const char expected = shape[word_bytes_];
  if (expected == '0' ? !is_digit(c) : c != expected)
    return fail(400, "the HTTP version is malformed");
  word_[word_bytes_++] = c;
  if (word_bytes_ == word_.size()) check_version();
}

// RFC 9110 15.6.6: 505 for a major version that is not served. The preface of HTTP/2 with prior
// knowledge looks like a request of version 2.0 (RFC 9113 3.4).
void HeadScanner::check_version() {
  const std::string_view version(word_.data(), word_.size());
  if (version == "HTTP/1.1" || version == "HTTP/1.0") return;
  fail(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
}

// RFC 9112 2.2: neither a bare CR nor a bare LF ends a line here.
void HeadScanner::take_line_feed(std::uint8_t byte, State next) {
  if (byte != '\n') return fail(400, "a CR stands without LF");
  state_ = next;
}

void HeadScanner::take_line(std::uint8_t byte) {
  if (byte == '\r') {
    state_ = State::last_line_feed;
    return;
  }
  // RFC 9112 5.2: obs-fold in a request is refused; 2.2: so is white space before the first field.
  if (byte == ' ' || byte == '\t') return fail(400, "a header line begins with white space");
  if (byte == ':') return fail(400, "a header field has no name");
  if (++headers_ > limits_.headers_max) return fail(431, "the request has too many header fields");
  state_ = State::name;
  take_name(byte);
}

void HeadScanner::take_name(std::uint8_t byte) {
  if (byte == ':') {
    state_ = State::value;
    return;
  }
  // RFC 9112 5.1: no white space between the name and the colon; RFC 9110 5.1: the name is a token.
  if (!is_token_char(static_cast<char>(byte))) fail(400, "a header field's name is not a token");
}

void HeadScanner::take_value(std::uint8_t byte) {
  if (byte == '\r') {
    state_ = State::line_feed;
    return;
  }
  // RFC 9110 5.5: CR, LF and NUL are dangerous, other control characters invalid.
  if ((byte < ' ' && byte != '\t') || byte == 0x7f) {
    fail(400, "a header field's value has a control character");
  }
}

}  // namespace sluice::http
