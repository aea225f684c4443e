#include "http/request_parser.h"

#include <ctime>
#include <ostream>

#include "heads.h"

namespace sluice::http {
namespace {

using Status = RequestParser::Status;
using namespace std::string_literals;

struct Row {
  const char* what;
  std::string head;
  int status;  // 0: a good request
};

void check_rows(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const Outcome outcome = parse(row.head);
    CAPTURE(outcome.error.message);
    CHECK(outcome.error.status == row.status);
    if (row.status == 0) {
      CHECK(outcome.status == Status::complete);
      CHECK(outcome.consumed == row.head.size());
    } else {
      CHECK_FALSE(outcome.error.message.empty());
    }
  }
}

TEST_CASE("a request is read in full (RFC 9112 2.1)") {
  const Request read = request(
      "GET /a/../echo?x=1&y HTTP/1.1\r\nHost: Example.COM:8080\r\nX-Empty:\r\nX-Two:  a b \t\r\n"
      "X_Under: score\r\nX-Two: c\r\nX-Utf8: \xe4\xbd\xa0\r\n\r\n");
  CHECK(read.method == "GET");
  CHECK(read.target == "/a/../echo?x=1&y");
  CHECK(read.path == "/echo");
  CHECK(read.query == "x=1&y");
  CHECK(read.host == "example.com");
  CHECK(read.authority == "Example.COM:8080");
  CHECK(read.version_minor == 1);
  CHECK(read.keep_alive);
  CHECK_FALSE(read.has_body);
  REQUIRE(read.headers.size() == 6);
  CHECK(read.headers[1].name == "X-Empty");
  CHECK(read.headers[1].value == "");
  CHECK(read.header("x-TWO") == "a b, c");
  CHECK(read.header("x_under") == "score");
  CHECK(read.header("X-UTF8") == "\xe4\xbd\xa0");
  CHECK_FALSE(read.header("x-none"));
  CHECK(read.count("x-two") == 2);
}

TEST_CASE("list fields are compared without case and over several fields (RFC 9110 5.3)") {
  const Request read = request(get("/", "Connection: keep-alive ,\r\ncONNECTION: ,UpGrade\r\n"));
  CHECK(read.has_token("connection", "upgrade"));
  CHECK(read.has_token("connection", "keep-alive"));
  CHECK_FALSE(read.has_token("connection", "grade"));
  CHECK_FALSE(read.has_token("host", "example"));
}

TEST_CASE("what follows the head is left to the caller") {
  const std::string head = get("/echo");
  RequestParser parser(test_limits);
  std::size_t consumed = 0;
  CHECK(parser.feed(as_bytes(head + "\x81\x85rest"), consumed) == Status::complete);
  CHECK(consumed == head.size());
  CHECK(parser.feed(as_bytes("more"), consumed) == Status::complete);
  CHECK(consumed == 0);
  CHECK(parser.request().path == "/echo");
}

TEST_CASE("pipelined requests are read one after the other (RFC 9112 9.3.2)") {
  const std::string first = get("/1");
  const std::string both = first + "\r\n" + get("/2", "X: y\r\n");
  RequestParser parser(test_limits);
  std::size_t consumed = 0;
  REQUIRE(parser.feed(as_bytes(both), consumed) == Status::complete);
  CHECK(consumed == first.size());
  parser.reset();
  REQUIRE(parser.feed(as_bytes(std::string_view(both).substr(consumed)), consumed) ==
          Status::complete);
  CHECK(parser.request().path == "/2");
  CHECK(parser.request().headers.size() == 2);
}

TEST_CASE("empty lines before a request are skipped and do not start it (RFC 9112 2.2)") {
  RequestParser parser(test_limits);
  std::size_t consumed = 0;
  CHECK(parser.feed(as_bytes("\r\n\r"), consumed) == Status::need_more);
  CHECK(consumed == 3);
  CHECK_FALSE(parser.started());
  CHECK(parser.feed(as_bytes("\nG"), consumed) == Status::need_more);
  CHECK(parser.started());
  CHECK(parse("\r\n\r\n" + get("/")).status == Status::complete);
  CHECK(parse("\r\n\r\n\r\n\r\n\r\n" + get("/")).error.status == 400);
  CHECK(parse("\n" + get("/")).error.status == 400);
  CHECK(parse("\r" + get("/")).error.status == 400);
  CHECK(parse("\r\r\n" + get("/")).error.status == 400);
}

TEST_CASE("keep-alive is what the client wants (RFC 9112 9.3)") {
  const std::string old = "GET / HTTP/1.0\r\n";
  CHECK(request(get("/")).keep_alive);
  CHECK_FALSE(request(get("/", "Connection: Close\r\n")).keep_alive);
  CHECK_FALSE(request(get("/", "Connection: keep-alive, close\r\n")).keep_alive);
  CHECK_FALSE(request(old + "\r\n").keep_alive);
  CHECK(request(old + "Connection: Keep-Alive\r\n\r\n").keep_alive);
  CHECK(request(old + "\r\n").version_minor == 0);
  CHECK(request(old + "\r\n").host == "");
}

TEST_CASE("framing that could be read in two ways is refused (RFC 9112 6.3)") {
  check_rows({
      {"length", get("/", "Content-Length: 5\r\n"), 0},
      {"chunked", get("/", "Transfer-Encoding: Chunked\r\n"), 0},
      {"both", get("/", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"both, turned", get("/", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400},
      {"zero and chunked", get("/", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"two lengths", get("/", "Content-Length: 5\r\nContent-Length: 6\r\n"), 400},
      {"twice the same", get("/", "Content-Length: 5\r\nContent-Length: 5\r\n"), 400},
      {"a list of lengths", get("/", "Content-Length: 5, 5\r\n"), 400},
      {"plus", get("/", "Content-Length: +5\r\n"), 400},
      {"minus", get("/", "Content-Length: -5\r\n"), 400},
      {"hex", get("/", "Content-Length: 0x5\r\n"), 400},
      {"space inside", get("/", "Content-Length: 5 5\r\n"), 400},
      {"empty", get("/", "Content-Length:\r\n"), 400},
      {"overflow", get("/", "Content-Length: 18446744073709551616\r\n"), 400},
      {"xchunked", get("/", "Transfer-Encoding: xchunked\r\n"), 400},
      {"chunkedx", get("/", "Transfer-Encoding: chunkedx\r\n"), 400},
      {"identity", get("/", "Transfer-Encoding: identity\r\n"), 400},
      {"chunked not last", get("/", "Transfer-Encoding: chunked, gzip\r\n"), 400},
      {"chunked twice", get("/", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
       400},
      {"quoted", get("/", "Transfer-Encoding: \"chunked\"\r\n"), 400},
      {"vertical tab", get("/", "Transfer-Encoding: \x0b"s + "chunked\r\n"), 400},
      {"HTTP/1.0 and chunked", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
  });
  CHECK(request(get("/", "Content-Length: 5\r\n")).has_body);
  CHECK(request(get("/", "Transfer-Encoding: chunked\r\n")).has_body);
  CHECK_FALSE(request(get("/", "Content-Length: 00\r\n")).has_body);
}

TEST_CASE("only CRLF ends a line (RFC 9112 2.2)") {
  check_rows({
      {"LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
      {"LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
      {"LF in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n", 400},
      {"CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", 400},
      {"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
      {"CR after the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n", 400},
      {"CR at the end", "GET / HTTP/1.1\r\nHost: a\r\n\rX", 400},
      {"CR in the target", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"LF in the name", "GET / HTTP/1.1\r\nHo\nst: a\r\n\r\n", 400},
  });
}

TEST_CASE("malformed fields are refused (RFC 9112 5)") {
  check_rows({
      {"obs-fold", get("/", "X: a\r\n b\r\n"), 400},
      {"obs-fold with a tab", get("/", "X: a\r\n\tb\r\n"), 400},
      {"space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"space before the colon", get("/", "X : a\r\n"), 400},
      {"tab before the colon", get("/", "X\t: a\r\n"), 400},
      {"empty name", get("/", ": a\r\n"), 400},
      {"no colon", get("/", "X\r\n"), 400},
      {"NUL in a value", get("/", "X: a\0b\r\n"s), 400},
      {"DEL in a value", get("/", "X: a\x7f\r\n"), 400},
      {"ESC in a value", get("/", "X: a\x1b[0m\r\n"), 400},
      {"NUL in a name", get("/", "X\0: a\r\n"s), 400},
      {"parenthesis in a name", get("/", "X(: a\r\n"), 400},
      {"slash in a name", get("/", "X/Y: a\r\n"), 400},
      {"UTF-8 in a name", get("/", "X\xc3\xa9: a\r\n"), 400},
      {"tab in a value", get("/", "X: a\tb\r\n"), 0},
      {"all the marks of a token", get("/", "!#$%&'*+-.^_`|~1aA: a\r\n"), 0},
  });
}

TEST_CASE("a refusal names what is wrong") {
  CHECK(parse(get("/", "X: a\r\n b\r\n")).error.message == "a header line begins with white space");
  CHECK(parse(get("/", "X : a\r\n")).error.message == "a header field's name is not a token");
  CHECK(parse(get("/..")).error.message == "the path leads above the root");
  CHECK(parse("\x16").error.message == "this port speaks plain HTTP, not TLS");
}

TEST_CASE("request lines that are none are refused (RFC 9112 3)") {
  check_rows({
      {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"space after the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
      {"HTTP/0.9", "GET /\r\n", 400},
      {"lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
      {"no minor version", "GET / HTTP/1\r\nHost: a\r\n\r\n", 400},
      {"long minor version", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
      {"another protocol", "GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400},
      {"ICE", "SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", 400},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
      {"HTTP/3.0", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505},
      {"HTTP/0.9 spelt out", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505},
      {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"PRI", "PRI / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501},
      {"unknown method", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
      {"lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
      {"POST", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
      {"empty method", " / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"binary", "\x80\x01\x02", 400},
      {"TLS", "\x16\x03\x01\x02\x00", 400},
      {"PROXY protocol v2", "\r\n\r\n\0\r\nQUIT\n"s, 400},
      {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0},
      {"asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"asterisk and more", "OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"no slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"authority-form", "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400},
      {"raw UTF-8", "GET /\xe4\xbd\xa0 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"s, 400},
  });
}

TEST_CASE("there is one authority (RFC 9112 3.2)") {
  const auto with_hosts = [](std::string_view target, std::string_view hosts) {
    return "GET " + std::string(target) + " HTTP/1.1\r\n" + std::string(hosts) + "\r\n";
  };
  check_rows({
      {"none", with_hosts("/", ""), 400},
      {"two", with_hosts("/", "Host: a\r\nHost: b\r\n"), 400},
      {"twice the same", with_hosts("/", "Host: a\r\nhost: a\r\n"), 400},
      {"empty", with_hosts("/", "Host:\r\n"), 400},
      {"list", with_hosts("/", "Host: a, b\r\n"), 400},
      {"space", with_hosts("/", "Host: a b\r\n"), 400},
      {"slash", with_hosts("/", "Host: a/b\r\n"), 400},
      {"user", with_hosts("/", "Host: u@a\r\n"), 400},
      {"escape", with_hosts("/", "Host: a%00\r\n"), 400},
      {"port only", with_hosts("/", "Host: :80\r\n"), 400},
      {"no port", with_hosts("/", "Host: a:\r\n"), 400},
      {"port too large", with_hosts("/", "Host: a:65536\r\n"), 400},
      {"port no number", with_hosts("/", "Host: a:8x\r\n"), 400},
      {"signed port", with_hosts("/", "Host: a:+80\r\n"), 400},
      {"two ports", with_hosts("/", "Host: a:80:80\r\n"), 400},
      {"bare IPv6", with_hosts("/", "Host: ::1\r\n"), 400},
      {"broken IPv6", with_hosts("/", "Host: [::1\r\n"), 400},
      {"no IPv6", with_hosts("/", "Host: [::g]\r\n"), 400},
      {"text behind IPv6", with_hosts("/", "Host: [::1]a\r\n"), 400},
      {"longest port", with_hosts("/", "Host: a:65535\r\n"), 0},
      {"IPv6", with_hosts("/", "Host: [::1]:80\r\n"), 0},
      {"absolute-form", with_hosts("http://a/x", "Host: a\r\n"), 0},
      {"absolute-form, other case", with_hosts("HTTP://A/x", "Host: a\r\n"), 0},
      {"absolute-form without Host", with_hosts("http://a/x", ""), 400},
      {"absolute-form of another host", with_hosts("http://b/x", "Host: a\r\n"), 400},
      {"absolute-form of another port", with_hosts("http://a:81/x", "Host: a\r\n"), 400},
      {"absolute-form with a user", with_hosts("http://u@a/x", "Host: a\r\n"), 400},
      {"absolute-form without host", with_hosts("http:///x", "Host: a\r\n"), 400},
      {"another scheme", with_hosts("ftp://a/x", "Host: a\r\n"), 400},
  });
  CHECK(parse(with_hosts("/", "Host: a\r\nHost: a\r\n")).error.message ==
        "more than one Host came");
  CHECK(request(with_hosts("/", "Host: [::1]:80\r\n")).host == "[::1]");
  CHECK(request(with_hosts("/", "Host: Example.com.\r\n")).host == "example.com");
  const Request absolute = request(with_hosts("https://Example.com?q", "Host: example.com\r\n"));
  CHECK(absolute.host == "example.com");
  CHECK(absolute.path == "/");
  CHECK(absolute.query == "q");
  CHECK(request("GET http://a:80/x HTTP/1.0\r\n\r\n").authority == "a:80");
  CHECK(parse("GET http://u@a/x HTTP/1.0\r\n\r\n").error.status == 400);
}

TEST_CASE("of a refused request no path is known: no route tells which part of it is a secret") {
  for (const char* host : {"b", "a b", "[::"}) {
    const std::string text =
        "GET http://a/vnc/secret HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n";
    RequestParser parser(test_limits);
    std::size_t consumed = 0;
    (void)parser.feed(as_bytes(text), consumed);
    CHECK(parser.error().status == 400);
    CHECK(parser.request().path.empty());
  }
}

TEST_CASE("a long target is refused before it is stored (RFC 9110 15.5.15)") {
  const std::string longest = "/" + std::string(test_limits.target_bytes_max - 1, 'a');
  CHECK(parse(get(longest)).status == Status::complete);
  CHECK(parse(get(longest + "a")).error.status == 414);
  CHECK(parse("GET /" + std::string(100'000, 'a')).error.status == 414);
  // The head's limit may be the lower one.
  CHECK(parse("GET /" + std::string(100'000, 'a'), {100, 1024, 8192}).error.status == 414);
}

TEST_CASE("too many and too large fields are refused (RFC 6585 5)") {
  std::string lines;
  for (std::uint32_t i = 1; i < test_limits.headers_max; ++i) lines += "X: y\r\n";
  CHECK(request(get("/", lines)).headers.size() == test_limits.headers_max);
  CHECK(parse(get("/", lines + "X: y\r\n")).error.status == 431);
  CHECK(parse(get("/", "X: " + std::string(1'000'000, 'a') + "\r\n")).error.status == 431);
  CHECK(parse(get("/", std::string(1'000'000, 'a') + ": b\r\n")).error.status == 431);
  CHECK(parse(std::string(1'000'000, 'G')).error.status == 501);
  const std::string fixed = get("/", "X: \r\n");
  const std::string fill(test_limits.head_bytes_max - fixed.size(), 'a');
  CHECK(parse(get("/", "X: " + fill + "\r\n")).status == Status::complete);
  CHECK(parse(get("/", "X: " + fill + "a\r\n")).error.status == 431);
}

TEST_CASE("an error is found as soon as its byte arrives, and stays") {
  RequestParser parser(test_limits);
  std::size_t consumed = 0;
  CHECK(parser.feed(as_bytes("GET / HTTP/1.1\r\nHost : a"), consumed) == Status::error);
  CHECK(parser.feed(as_bytes(get("/")), consumed) == Status::error);
  CHECK(consumed == 0);
  parser.reset();
  CHECK(parser.feed(as_bytes(get("/")), consumed) == Status::complete);
}

}  // namespace
}  // namespace sluice::http
