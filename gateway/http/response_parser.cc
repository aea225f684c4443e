#include "http/response_parser.h"

#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "base/field.h"
#include "http/line_reader.h"

namespace sluice::http {
namespace {

// One reader, and not two as RequestParser has: a line is checked byte by byte and then taken apart
// by rules that fit on a page, and what they yield is all that anybody sees of the head. It is
// never passed on as bytes; the client gets a head that was written anew (response.h). llhttp would
// add leniencies (other protocols' status lines, obs-fold) that had to be excluded again.

using Check = const char*;  // what is wrong, or nullptr

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// RFC 9112 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]. Many servers leave
// the second space away if no phrase follows; that can be read in one way only.
Check parse_status_line(std::string_view line, ResponseHead& head) {
  constexpr std::string_view name = "HTTP/1.";
  if (!line.starts_with(name)) return "the status line does not begin with HTTP/1.0 or HTTP/1.1";
  line.remove_prefix(name.size());
  if (line.size() < 5 || (line[0] != '0' && line[0] != '1') || line[1] != ' ') {
    return "the status line is malformed";
  }
  head.version_minor = line[0] - '0';
  line.remove_prefix(2);
  if (line[0] < '1' || line[0] > '5' || !is_digit(line[1]) || !is_digit(line[2])) {
    return "the status is not a number from 100 to 599";
  }
  head.status = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
  line.remove_prefix(3);
  if (!line.empty() && line[0] != ' ') return "the status line is malformed";
  if (!line.empty()) head.reason_phrase = trim(line);
  return nullptr;
}

std::optional<std::uint64_t> parse_length(std::string_view text) {
  std::uint64_t length = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, length);
  if (rest != end || error != std::errc()) return std::nullopt;
  return length;
}

// What the fields say about the length, whether or not a body follows. Two opinions are an error
// even where none of them counts: such an upstream cannot be trusted with the next response.
Check parse_framing(ResponseHead& head, BodyFraming& framing) {
  using Kind = BodyFraming::Kind;
  const std::optional<std::string> length = head.header("content-length");
  const std::optional<std::string> coding = head.header("transfer-encoding");
  framing = {Kind::until_close, 0};
  if (coding) {
    if (length) return "both Content-Length and Transfer-Encoding came";
    if (head.version_minor == 0) return "HTTP/1.0 knows no Transfer-Encoding";
    if (!equals_ignoring_case(*coding, "chunked")) return "unknown Transfer-Encoding";
    framing.kind = Kind::chunked;
  } else if (length) {
    head.content_length = parse_length(*length);
    if (!head.content_length) return "Content-Length is not one number";
    framing = {Kind::length, *head.content_length};
  }
  return nullptr;
}

// RFC 9112 6.3 (1): responses that end with their head.
bool has_no_body(int status, bool to_head) {
  return to_head || status < 200 || status == 204 || status == 304;
}

// RFC 9112 9.3.
bool wants_keep_alive(const ResponseHead& head) {
  const bool asked = head.version_minor == 1 || head.has_token("connection", "keep-alive");
  return asked && !head.has_token("connection", "close");
}

Check decide_framing(ResponseHead& head, bool to_head) {
  using Kind = BodyFraming::Kind;
  BodyFraming announced;
  if (const Check wrong = parse_framing(head, announced)) return wrong;
  const bool announces_body =
      announced.kind == Kind::chunked || (announced.kind == Kind::length && announced.length > 0);
  // RFC 9110 8.6 and RFC 9112 6.1: neither may stand there. What the upstream sends behind a 1xx
  // would be taken for the response.
  if (head.status < 200 && announces_body) return "a 1xx response announces a body";
  const bool none = has_no_body(head.status, to_head);
  head.framing = none ? BodyFraming() : announced;
  head.keep_alive = wants_keep_alive(head) && head.status != 101 &&
                    head.framing.kind != Kind::until_close &&
                    // The body that a 204 announces might come after all.
                    !(head.status == 204 && announces_body);
  return nullptr;
}

}  // namespace

struct ResponseParser::State {
  explicit State(const ResponseLimits& the_limits) : limits(the_limits) {}

  Status status() const {
    if (!error.empty()) return Status::error;
    return complete ? Status::complete : Status::need_more;
  }
  void read_line(Bytes& input);
  void take_line(const std::string& line);
  void fail(const char* what) { error = what; }

  ResponseLimits limits;
  LineReader lines;
  std::size_t head_bytes = 0;  // of the lines that are complete
  bool to_head = false;        // answers a HEAD request
  bool complete = false;
  ResponseHead head;
  std::string error;
};

void ResponseParser::State::read_line(Bytes& input) {
  constexpr std::size_t line_end_bytes = 2;
  const std::size_t left = limits.head_bytes_max - head_bytes;
  if (left < line_end_bytes) return fail("the response's head is too large");
  switch (lines.read(input, left - line_end_bytes)) {
    case LineReader::Status::need_more:
      return;
    case LineReader::Status::complete:
      head_bytes += lines.line().size() + line_end_bytes;
      return take_line(lines.line());
    case LineReader::Status::too_long:
      return fail("the response's head is too large");
    case LineReader::Status::malformed:
      return fail("the response's head has a control character, or a CR or LF that stands alone");
  }
}

void ResponseParser::State::take_line(const std::string& line) {
  if (head.status == 0) {
    if (const Check wrong = parse_status_line(line, head)) fail(wrong);
    return;
  }
  if (line.empty()) {
    if (const Check wrong = decide_framing(head, to_head)) return fail(wrong);
    complete = true;
    return;
  }
  if (head.headers.size() == limits.headers_max) {
    return fail("the response has too many header fields");
  }
  std::optional<Header> field = parse_field_line(line);
  if (!field) return fail("a header field of the response is malformed");
  head.headers.push_back(*std::move(field));
}

ResponseParser::ResponseParser(const ResponseLimits& limits)
    : state_(std::make_unique<State>(limits)) {}

ResponseParser::~ResponseParser() = default;

void ResponseParser::expect(std::string_view request_method) {
  const ResponseLimits limits = state_->limits;
  *state_ = State(limits);
  state_->to_head = request_method == "HEAD";
}

ResponseParser::Status ResponseParser::feed(Bytes bytes, std::size_t& consumed) {
  Bytes left = bytes;
  while (!left.empty() && state_->status() == Status::need_more) state_->read_line(left);
  consumed = bytes.size() - left.size();
  return state_->status();
}

const ResponseHead& ResponseParser::head() const {
  return state_->head;
}

const std::string& ResponseParser::error() const {
  return state_->error;
}

}  // namespace sluice::http
