#include "http/body.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "base/field.h"

namespace sluice::http {
namespace {

using Kind = BodyFraming::Kind;

// ---- Chunk lines (RFC 9112 7.1): chunk-size [ chunk-ext ].

constexpr std::size_t size_digits_max = 16;  // 64 bits

// Takes the digits from the front. from_chars alone would stop nowhere for leading zeros.
std::optional<std::uint64_t> take_hex(std::string_view& line) {
  const std::size_t digits =
      std::min(line.find_first_not_of("0123456789abcdefABCDEF"), line.size());
  if (digits == 0 || digits > size_digits_max) return std::nullopt;
  std::uint64_t number = 0;
  std::from_chars(line.data(), line.data() + digits, number, 16);
  line.remove_prefix(digits);
  return number;
}

void skip_white_space(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
}

bool skip_token(std::string_view& text) {
  const auto* const end = std::find_if_not(text.begin(), text.end(), is_token_char);
  const auto size = static_cast<std::size_t>(end - text.begin());
  text.remove_prefix(size);
  return size > 0;
}

// RFC 9110 5.6.4. The line's end cannot be inside: to some readers it could, which is what
// requests are smuggled with.
bool skip_quoted(std::string_view& text) {
  std::size_t at = 1;
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  if (at >= text.size()) return false;
  text.remove_prefix(at + 1);
  return true;
}

// RFC 9112 7.1.1: *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), but no white
// space directly behind the size.
bool are_extensions(std::string_view text) {
  while (!text.empty()) {
    if (text.front() != ';') return false;
    text.remove_prefix(1);
    skip_white_space(text);
    if (!skip_token(text)) return false;
    skip_white_space(text);
    if (!text.starts_with('=')) continue;
    text.remove_prefix(1);
    skip_white_space(text);
    const bool value = text.starts_with('"') ? skip_quoted(text) : skip_token(text);
    if (!value) return false;
    skip_white_space(text);
  }
  return true;
}

// ---- Trailers that are sent on.

// RFC 9110 6.5.1: not what frames, routes, modifies or authenticates a message, or says how its
// content is to be processed.
constexpr std::string_view forbidden_trailers[] = {
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
    "x-real-ip",
};

bool may_be_trailer(const Header& field) {
  if (!is_token(field.name) || !is_field_value(field.value)) return false;
  // Some servers take an underscore for a hyphen (forward.h).
  if (field.name.find('_') != std::string::npos) return false;
  const std::string name = to_lower(field.name);
  return !name.starts_with("x-forwarded-") && !name.starts_with("sec-websocket-") &&
         std::find(std::begin(forbidden_trailers), std::end(forbidden_trailers), name) ==
             std::end(forbidden_trailers);
}

}  // namespace

BodyFraming request_framing(const Request& request) {
  if (request.count("transfer-encoding") > 0) return {Kind::chunked, 0};
  const std::optional<std::string> length = request.header("content-length");
  if (!length) return {};
  BodyFraming framing{Kind::length, 0};
  std::from_chars(length->data(), length->data() + length->size(), framing.length);
  return framing;
}

BodyReader::BodyReader(BodyFraming framing)
    : framing_(framing),
      state_(framing.kind == Kind::chunked ? State::size : State::data),
      left_(framing.kind == Kind::length ? framing.length : 0) {}

BodyReader::Step BodyReader::read(Bytes& input) {
  while (state_ != State::data && error_ == nullptr && !ended() && !input.empty()) read_line(input);
  if (error_ != nullptr) return {.error = error_};
  if (ended()) return {.end = true};
  if (state_ == State::data) return read_data(input);
  return {};
}

BodyReader::Step BodyReader::read_data(Bytes& input) {
  Step step;
  if (framing_.kind == Kind::until_close) {
    step.payload = std::exchange(input, Bytes());
    return step;
  }
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size()));
  step.payload = input.first(size);
  input = input.subspan(size);
  left_ -= size;
  if (left_ > 0) return step;
  state_ = framing_.kind == Kind::chunked ? State::data_end : State::ended;
  step.end = ended();
  return step;
}

void BodyReader::read_line(Bytes& input) {
  switch (lines_.read(input, line_bytes_max())) {
    case LineReader::Status::need_more:
      return;
    case LineReader::Status::complete:
      return take_line(lines_.line());
    case LineReader::Status::malformed:
      return fail(
          "a line of the chunked body has a control character, or a CR or LF that stands "
          "alone");
    case LineReader::Status::too_long:
      if (state_ == State::data_end) return fail("a chunk is longer than its size says");
      return fail(state_ == State::size ? "a chunk's line is too long" : "too large trailers");
  }
}

std::size_t BodyReader::line_bytes_max() const {
  if (state_ == State::size) return chunk_line_bytes_max;
  if (state_ == State::trailer) return trailer_bytes_max - trailer_bytes_;
  return 0;  // behind the data there is CRLF and nothing else
}

void BodyReader::take_line(std::string_view line) {
  if (state_ == State::size) return take_size(line);
  if (state_ == State::trailer) return take_trailer(line);
  state_ = State::size;
}

void BodyReader::take_size(std::string_view line) {
  const std::optional<std::uint64_t> size = take_hex(line);
  if (!size) return fail("a chunk's size is not a hexadecimal number of at most 16 digits");
  if (!are_extensions(line)) return fail("a chunk's extensions are malformed");
  left_ = *size;
  state_ = left_ > 0 ? State::data : State::trailer;
}

void BodyReader::take_trailer(std::string_view line) {
  if (line.empty()) {
    state_ = State::ended;
    return;
  }
  if (trailers_.size() == trailers_max) return fail("too many trailers");
  std::optional<Header> field = parse_field_line(line);
  if (!field) return fail("a trailer is malformed");
  trailer_bytes_ = std::min(trailer_bytes_ + line.size() + 2, trailer_bytes_max);
  trailers_.push_back(*std::move(field));
}

void BodyReader::fail(const char* what) {
  error_ = what;
  state_ = State::failed;
}

bool BodyReader::end_of_stream() {
  if (ended()) return true;
  const bool complete = state_ == State::data && framing_.kind != Kind::chunked && left_ == 0;
  if (complete) {
    state_ = State::ended;
  } else if (error_ == nullptr) {
    fail("the body is cut off");
  }
  return complete;
}

void append_chunk(Bytes piece, ByteQueue& out) {
  if (piece.empty()) return;
  std::array<char, size_digits_max + 2> line = {};
  char* end = std::to_chars(line.data(), line.data() + size_digits_max, piece.size(), 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(as_bytes({line.data(), static_cast<std::size_t>(end - line.data())}));
  out.append(piece);
  out.append(as_bytes("\r\n"));
}

void append_last_chunk(const std::vector<Header>& trailers, ByteQueue& out) {
  std::string text = "0\r\n";
  for (const Header& field : trailers) {
    if (may_be_trailer(field)) text.append(field.name).append(": ").append(field.value) += "\r\n";
  }
  out.append(as_bytes(text += "\r\n"));
}

}  // namespace sluice::http
