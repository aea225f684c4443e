#include "http/response_parser.h"

#include <ostream>

#include "pieces.h"

namespace sluice::http {
namespace {

using Status = ResponseParser::Status;
using namespace std::string_literals;

std::string describe(BodyFraming framing) {
  switch (framing.kind) {
    case BodyFraming::Kind::none:
      return "none";
    case BodyFraming::Kind::length:
      return "length " + std::to_string(framing.length);
    case BodyFraming::Kind::chunked:
      return "chunked";
    case BodyFraming::Kind::until_close:
      return "until close";
  }
  return "?";
}

// "200 chunked, keep; rest 'abc'", or "error: ...", or "more".
std::string describe(const ResponseParser& parser, Status status, std::string_view rest) {
  if (status == Status::error) return "error: " + parser.error();
  if (status == Status::need_more) return "more";
  const ResponseHead& head = parser.head();
  std::string text = std::to_string(head.status) + " " + describe(head.framing);
  text += head.keep_alive ? ", keep" : ", close";
  if (!rest.empty()) text += "; rest '" + std::string(rest) + "'";
  return text;
}

std::string parse(std::string_view input, std::string_view method = "GET",
                  const ResponseLimits& limits = {}) {
  return run_in_pieces(input, [&](const Pieces& pieces) {
    ResponseParser parser(limits);
    parser.expect(method);
    Status status = Status::need_more;
    std::string rest;
    for (const std::string_view piece : pieces) {
      std::size_t consumed = 0;
      status = parser.feed(as_bytes(piece), consumed);
      if (status == Status::need_more) CHECK(consumed == piece.size());
      rest += piece.substr(consumed);
    }
    return describe(parser, status, rest);
  });
}

// A response with these lines behind its status line.
std::string ok(std::string_view lines, std::string_view status_line = "HTTP/1.1 200 OK") {
  return std::string(status_line) + "\r\n" + std::string(lines) + "\r\n";
}

struct Row {
  const char* what;
  std::string head;
  std::string outcome;
};

void check_rows(const std::vector<Row>& rows, std::string_view method = "GET") {
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(parse(row.head, method) == row.outcome);
  }
}

// Refused, for whatever reason.
void check_refused(const std::vector<std::pair<const char*, std::string>>& rows) {
  for (const auto& [what, head] : rows) {
    CAPTURE(what);
    const std::string outcome = parse(head);
    CAPTURE(outcome);
    CHECK(outcome.starts_with("error: "));
  }
}

TEST_CASE("a response's head is read in full (RFC 9112 4)") {
  ResponseParser parser;
  parser.expect("GET");
  std::size_t consumed = 0;
  const std::string input =
      ok("Content-Length: 5\r\nSet-Cookie: a=1\r\nX-Empty:\r\nset-cookie:  b=2 \t\r\n"
         "X-Utf8: \xe4\xbd\xa0\r\nConnection: a, B\r\n",
         "HTTP/1.1 404 Nicht da\xdf");
  CHECK(parser.feed(as_bytes(input + "hello"), consumed) == Status::complete);
  CHECK(consumed == input.size());
  const ResponseHead& head = parser.head();
  CHECK(head.status == 404);
  CHECK(head.content_length == 5);
  CHECK(head.reason_phrase == "Nicht da\xdf");
  CHECK(head.version_minor == 1);
  CHECK(head.keep_alive);
  REQUIRE(head.headers.size() == 6);
  CHECK(head.headers[3].name == "set-cookie");
  CHECK(head.headers[3].value == "b=2");
  CHECK(head.header("x-empty") == "");
  CHECK(head.header("SET-COOKIE") == "a=1, b=2");
  CHECK_FALSE(head.header("x-none"));
  CHECK(head.count("Set-Cookie") == 2);
  CHECK(head.has_token("connection", "b"));
  CHECK_FALSE(head.has_token("connection", "c"));
  // Once complete, it stays so, until the next one is expected.
  CHECK(parser.feed(as_bytes("HTTP/1.1 "), consumed) == Status::complete);
  CHECK(consumed == 0);
  parser.expect("GET");
  CHECK(parser.feed(as_bytes("H"), consumed) == Status::need_more);
  CHECK(parser.feed(as_bytes("TTP/1.0 204\r\n\r\n"), consumed) == Status::complete);
  CHECK(parser.head().status == 204);
  CHECK_FALSE(parser.head().content_length);
  CHECK(parser.head().headers.empty());
  // What a GET would have got.
  parser.expect("HEAD");
  CHECK(parser.feed(as_bytes(ok("Content-Length: 7\r\n")), consumed) == Status::complete);
  CHECK(parser.head().framing.kind == BodyFraming::Kind::none);
  CHECK(parser.head().content_length == 7);
}

TEST_CASE("status lines that can be read in one way (RFC 9112 4)") {
  check_rows({
      {"usual", ok("", "HTTP/1.1 200 OK"), "200 until close, close"},
      {"no phrase", ok("", "HTTP/1.1 200 "), "200 until close, close"},
      {"no phrase and no space", ok("", "HTTP/1.1 200"), "200 until close, close"},
      {"phrase with a tab", ok("", "HTTP/1.1 200 O\tK"), "200 until close, close"},
      {"1.0", ok("", "HTTP/1.0 200 OK"), "200 until close, close"},
      {"unknown status", ok("Content-Length: 1\r\n", "HTTP/1.1 299 x"), "299 length 1, keep"},
      {"last status", ok("Content-Length: 1\r\n", "HTTP/1.1 599 x"), "599 length 1, keep"},
  });
  check_refused({
      {"HTTP/0.9", "<html>\r\n"},
      {"HTTP/2", ok("", "HTTP/2 200")},
      {"HTTP/2.0", ok("", "HTTP/2.0 200 OK")},
      {"HTTP/1.2", ok("", "HTTP/1.2 200 OK")},
      {"HTTP/1.11", ok("", "HTTP/1.11 200 OK")},
      {"lower case", ok("", "http/1.1 200 OK")},
      {"ICY", ok("", "ICY 200 OK")},
      {"RTSP", ok("", "RTSP/1.0 200 OK")},
      {"two spaces", ok("", "HTTP/1.1  200 OK")},
      {"tab", ok("", "HTTP/1.1\t200 OK")},
      {"space first", ok("", " HTTP/1.1 200 OK")},
      {"two digits", ok("", "HTTP/1.1 20 OK")},
      {"four digits", ok("", "HTTP/1.1 2000 OK")},
      {"099", ok("", "HTTP/1.1 099 OK")},
      {"600", ok("", "HTTP/1.1 600 OK")},
      {"no digits", ok("", "HTTP/1.1 2x0 OK")},
      {"signed", ok("", "HTTP/1.1 +20 OK")},
      {"no status", ok("", "HTTP/1.1 ")},
      {"version only", ok("", "HTTP/1.1")},
      {"phrase without a space", ok("", "HTTP/1.1 200OK")},
      {"NUL in the phrase", ok("", "HTTP/1.1 200 O\0K"s)},
      {"ESC in the phrase", ok("", "HTTP/1.1 200 O\x1bK")},
      {"CR in the phrase", ok("", "HTTP/1.1 200 O\rK")},
      {"empty line first", "\r\n" + ok("")},
      {"a chunk's end first", "0\r\n\r\n" + ok("")},
      {"binary", "\x16\x03\x01\r\n"s},
  });
}

TEST_CASE("only CRLF ends a line (RFC 9112 2.2)") {
  check_refused({
      {"LF after the status line", "HTTP/1.1 200 OK\nX: a\r\n\r\n"},
      {"LF after a field", "HTTP/1.1 200 OK\r\nX: a\n\r\n"},
      {"LF at the end", "HTTP/1.1 200 OK\r\nX: a\r\n\n"},
      {"LF in a value", "HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n"},
      {"CR in a value", "HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n"},
      {"CR CR LF", "HTTP/1.1 200 OK\r\nX: a\r\r\n\r\n"},
      {"CR at the end", "HTTP/1.1 200 OK\r\nX: a\r\n\rX"},
      {"LF in a name", "HTTP/1.1 200 OK\r\nX\nY: a\r\n\r\n"},
  });
}

TEST_CASE("malformed fields are refused (RFC 9112 5)") {
  check_refused({
      {"obs-fold", ok("X: a\r\n b\r\n")},
      {"obs-fold with a tab", ok("X: a\r\n\tb\r\n")},
      {"obs-fold with a colon", ok("X: a\r\n b: c\r\n")},
      {"space before the first field", ok(" X: a\r\n")},
      {"space before the colon", ok("X : a\r\n")},
      {"tab before the colon", ok("X\t: a\r\n")},
      {"empty name", ok(": a\r\n")},
      {"no colon", ok("X\r\n")},
      {"NUL in a value", ok("X: a\0b\r\n"s)},
      {"NUL in a name", ok("X\0: a\r\n"s)},
      {"DEL in a value", ok("X: a\x7f\r\n")},
      {"vertical tab in a value", ok("X: a\x0b\r\n")},
      {"parenthesis in a name", ok("X(: a\r\n")},
      {"UTF-8 in a name", ok("X\xc3\xa9: a\r\n")},
  });
  CHECK(parse(ok("Content-Length: 1\r\nX: a\tb:c\r\n!#$%&'*+-.^_`|~1aA: a\r\n")) ==
        "200 length 1, keep");
}

TEST_CASE("framing follows RFC 9112 6.3") {
  check_rows({
      {"length", ok("Content-Length: 5\r\n") + "hello", "200 length 5, keep; rest 'hello'"},
      {"zero", ok("Content-Length: 0\r\n"), "200 length 0, keep"},
      {"longest", ok("Content-Length: 18446744073709551615\r\n"),
       "200 length 18446744073709551615, keep"},
      {"chunked", ok("Transfer-Encoding: Chunked\r\n"), "200 chunked, keep"},
      {"neither", ok("X: y\r\n"), "200 until close, close"},
      {"204", ok("", "HTTP/1.1 204 x"), "204 none, keep"},
      {"204 with zero", ok("Content-Length: 0\r\n", "HTTP/1.1 204 x"), "204 none, keep"},
      {"204 with a length", ok("Content-Length: 5\r\n", "HTTP/1.1 204 x"), "204 none, close"},
      {"204 chunked", ok("Transfer-Encoding: chunked\r\n", "HTTP/1.1 204 x"), "204 none, close"},
      {"304 with a length", ok("Content-Length: 5\r\n", "HTTP/1.1 304 x"), "304 none, keep"},
      {"100", ok("", "HTTP/1.1 100 Continue") + ok(""),
       "100 none, keep; rest 'HTTP/1.1 200 OK\r\n\r\n'"},
      {"103", ok("Link: </a>\r\n", "HTTP/1.1 103 x"), "103 none, keep"},
      {"101", ok("Upgrade: websocket\r\nConnection: Upgrade\r\n", "HTTP/1.1 101 x") + "\x81",
       "101 none, close; rest '\x81'"},
      {"101 with zero", ok("Content-Length: 0\r\n", "HTTP/1.1 101 x"), "101 none, close"},
  });
  check_rows(
      {
          {"HEAD, length", ok("Content-Length: 5\r\n"), "200 none, keep"},
          {"HEAD, chunked", ok("Transfer-Encoding: chunked\r\n"), "200 none, keep"},
          {"HEAD, neither", ok(""), "200 none, keep"},
      },
      "HEAD");
}

TEST_CASE("framing that could be read in two ways is refused (RFC 9112 6.3)") {
  const std::vector<std::pair<const char*, std::string>> rows = {
      {"both", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"},
      {"both, turned", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"},
      {"two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"},
      {"twice the same", "Content-Length: 5\r\ncontent-length: 5\r\n"},
      {"a list", "Content-Length: 5, 5\r\n"},
      {"plus", "Content-Length: +5\r\n"},
      {"minus", "Content-Length: -5\r\n"},
      {"hexadecimal", "Content-Length: 0x5\r\n"},
      {"hexadecimal digits", "Content-Length: 5a\r\n"},
      {"space inside", "Content-Length: 5 5\r\n"},
      {"empty", "Content-Length:\r\n"},
      {"overflow", "Content-Length: 18446744073709551616\r\n"},
      {"xchunked", "Transfer-Encoding: xchunked\r\n"},
      {"identity", "Transfer-Encoding: identity\r\n"},
      {"gzip", "Transfer-Encoding: gzip\r\n"},
      {"gzip and chunked", "Transfer-Encoding: gzip, chunked\r\n"},
      {"chunked not last", "Transfer-Encoding: chunked, gzip\r\n"},
      {"chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"},
      {"with a comma", "Transfer-Encoding: chunked,\r\n"},
      {"with a parameter", "Transfer-Encoding: chunked;q=1\r\n"},
      {"quoted", "Transfer-Encoding: \"chunked\"\r\n"},
      {"empty coding", "Transfer-Encoding:\r\n"},
  };
  for (const auto& [what, lines] : rows) {
    CAPTURE(what);
    CHECK(parse(ok(lines)).starts_with("error: "));
    // Also where the body would not be read.
    CHECK(parse(ok(lines), "HEAD").starts_with("error: "));
    CHECK(parse(ok(lines, "HTTP/1.1 304 x")).starts_with("error: "));
  }
  check_refused({
      {"HTTP/1.0 and chunked", ok("Transfer-Encoding: chunked\r\n", "HTTP/1.0 200 OK")},
      {"100 with a length", ok("Content-Length: 5\r\n", "HTTP/1.1 100 x")},
      {"103 chunked", ok("Transfer-Encoding: chunked\r\n", "HTTP/1.1 103 x")},
      {"101 with a length", ok("Content-Length: 5\r\n", "HTTP/1.1 101 x")},
  });
}

TEST_CASE("keep-alive is what the upstream says (RFC 9112 9.3)") {
  const std::string old = "HTTP/1.0 200 OK";
  const std::string length = "Content-Length: 1\r\n";
  check_rows({
      {"close", ok(length + "Connection: Close\r\n"), "200 length 1, close"},
      {"both", ok(length + "Connection: keep-alive, close\r\n"), "200 length 1, close"},
      {"1.0", ok(length, old), "200 length 1, close"},
      {"1.0 asks", ok(length + "Connection: Keep-Alive\r\n", old), "200 length 1, keep"},
      {"until close", ok("Connection: keep-alive\r\n"), "200 until close, close"},
      {"204", ok("Connection: close\r\n", "HTTP/1.1 204 x"), "204 none, close"},
  });
}

TEST_CASE("the head is bounded") {
  const ResponseLimits limits{3, 100};
  CHECK(parse(ok("A: b\r\nA: b\r\nA: b\r\n"), "GET", limits) == "200 until close, close");
  CHECK(parse(ok("A: b\r\nA: b\r\nA: b\r\nA: b\r\n"), "GET", limits) ==
        "error: the response has too many header fields");
  const std::size_t fixed = ok("A: \r\n").size();
  const auto filled = [&](std::size_t size) {
    return ok("A: " + std::string(size - fixed, 'a') + "\r\n");
  };
  CHECK(parse(filled(100), "GET", limits) == "200 until close, close");
  for (const std::size_t size : {101, 102, 103, 104, 1000}) {
    CHECK(parse(filled(size), "GET", limits) == "error: the response's head is too large");
  }
  // Without an end of the line, too.
  CHECK(parse("HTTP/1.1 200 " + std::string(1'000, 'a'), "GET", limits) ==
        "error: the response's head is too large");
  CHECK(parse(ok("X: " + std::string(70'000, 'a') + "\r\n")) ==
        "error: the response's head is too large");
}

TEST_CASE("a head that has not ended wants more") {
  const std::string head = ok("Content-Length: 5\r\nX: y\r\n");
  for (std::size_t size = 1; size < head.size(); ++size)
    CHECK(parse(head.substr(0, size)) == "more");
}

TEST_CASE("an error stays until the next response is expected") {
  ResponseParser parser;
  parser.expect("GET");
  std::size_t consumed = 0;
  CHECK(parser.feed(as_bytes("HTTP/1.1 200 OK\n"), consumed) == Status::error);
  CHECK(parser.feed(as_bytes(ok("")), consumed) == Status::error);
  CHECK(consumed == 0);
  parser.expect("HEAD");
  CHECK(parser.feed(as_bytes(ok("")), consumed) == Status::complete);
  CHECK(parser.error().empty());
}

}  // namespace
}  // namespace sluice::http
