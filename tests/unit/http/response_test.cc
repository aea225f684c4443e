#include "http/response.h"

#include <doctest/doctest.h>

#include <ostream>

namespace sluice::http {
namespace {

using namespace std::string_literals;

TEST_CASE("a response is serialised whole (RFC 9112 4)") {
  Response response;
  response.headers = {{"Content-Type", "text/plain"}};
  response.body = "hello";
  ResponseContext context;
  context.date = "Sun, 06 Nov 1994 08:49:37 GMT";
  CHECK(serialise(response, context) ==
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 5\r\n"
        "Content-Type: text/plain\r\n\r\nhello");
}

TEST_CASE("a response to HEAD describes the body and does not send it (RFC 9110 9.3.2)") {
  Response response;
  response.body = "hello";
  CHECK(serialise(response, {.head = true}) == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
}

TEST_CASE("a body that the caller sends is announced") {
  Response response;
  response.content_length = 10'000'000'000;
  CHECK(serialise(response, {}) == "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n");
}

TEST_CASE("1xx, 204 and 304 have no body and nothing that frames one (RFC 9110 8.6)") {
  for (const int status : {100, 101, 103, 204, 304}) {
    CAPTURE(status);
    Response response;
    response.status = status;
    response.body = "x";
    Response streamed = response;
    streamed.chunked = true;
    Response measured = response;
    measured.content_length = 5;
    for (const Response& each : {response, streamed, measured}) {
      const Result<std::string> wire = serialise(each, {});
      CHECK(wire->find("Content-Length") == std::string::npos);
      CHECK(wire->find("Transfer-Encoding") == std::string::npos);
      CHECK(wire->ends_with("\r\n\r\n"));
    }
  }
}

TEST_CASE("a body of unknown length is chunked, or ends with the connection (RFC 9112 6.3)") {
  Response response;
  response.chunked = true;
  CHECK(serialise(response, {}) == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(serialise(response, {.head = true}) ==
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK_FALSE(closes(response, {}));
  response.chunked = false;
  response.until_close = true;
  CHECK(serialise(response, {.version_minor = 0}) ==
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
  CHECK(closes(response, {.version_minor = 0}));
  // Where no body comes, nothing has to close.
  CHECK(serialise(response, {.head = true, .version_minor = 0}) ==
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n");
  response.status = 304;
  CHECK_FALSE(closes(response, {.version_minor = 0}));
}

TEST_CASE("a relayed response to HEAD carries the upstream's length") {
  Response response;
  response.content_length = 12345;
  CHECK(serialise(response, {.head = true}) == "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
}

TEST_CASE("a relayed head keeps its phrase, its Date and its cookies apart") {
  Response response;
  response.status = 200;
  response.reason_phrase = "Fine \xdf";
  response.headers = {
      {"date", "Sun, 06 Nov 1994 08:49:37 GMT"}, {"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}};
  response.content_length = 3;
  CHECK(serialise(response, {.date = "Thu, 01 Jan 1970 00:00:00 GMT"}) ==
        "HTTP/1.1 200 Fine \xdf\r\nContent-Length: 3\r\n"
        "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n");
  for (const std::string& phrase : {"a\r\nX: y"s, "a\n"s, "\0"s, "\x1b"s}) {
    response.reason_phrase = phrase;
    CHECK_FALSE(serialise(response, {}).has_value());
  }
}

TEST_CASE("an informational response has only its own fields (RFC 9110 15.2)") {
  Response response;
  response.status = 103;
  response.headers = {{"Link", "</a.css>"}};
  CHECK(serialise(response, {.keep_alive = false, .date = "Thu, 01 Jan 1970 00:00:00 GMT"}) ==
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
  response = Response();
  response.status = 100;
  CHECK(serialise(response, {.version_minor = 0}) == "HTTP/1.1 100 Continue\r\n\r\n");
}

TEST_CASE("Connection says what happens next (RFC 9112 9.3, RFC 9110 7.8)") {
  Response response;
  CHECK(serialise(response, {.keep_alive = false})->find("Connection: close\r\n") !=
        std::string::npos);
  CHECK(serialise(response, {.version_minor = 0})->find("Connection: keep-alive\r\n") !=
        std::string::npos);
  CHECK(serialise(response, {})->find("Connection") == std::string::npos);
  response.close = true;
  CHECK(closes(response, {}));
  CHECK(serialise(response, {})->find("Connection: close\r\n") != std::string::npos);
  response.headers = {{"Upgrade", "websocket"}};
  CHECK(serialise(response, {})->find("Connection: Upgrade, close\r\n") != std::string::npos);
  response.status = 101;
  CHECK(serialise(response, {})->find("Connection: Upgrade\r\n") != std::string::npos);
}

TEST_CASE("a field that could be read as two lines is never sent") {
  for (const std::string& value : {"a\r\nX: y"s, "a\nb"s, "a\rb"s, "a\0b"s, "a\x7f"s}) {
    Response response;
    response.headers = {{"X", value}};
    CHECK_FALSE(serialise(response, {}).has_value());
  }
  for (const std::string& name : {""s, "a b"s, "a:"s, "a\r\n"s, "\xc3\xa9"s}) {
    Response response;
    response.headers = {{name, "value"}};
    CHECK_FALSE(serialise(response, {}).has_value());
  }
}

TEST_CASE("a refusal says why, and is nothing but text") {
  const Response response = refusal(404, "there is no route /x", {{"Allow", "GET"}});
  CHECK(serialise(response, {}) ==
        "HTTP/1.1 404 Not Found\r\nContent-Length: 36\r\nAllow: GET\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\r\n"
        "404 Not Found: there is no route /x\n");
  CHECK(refusal(503, "").body == "503 Service Unavailable\n");
}

TEST_CASE("a status without phrase keeps its space (RFC 9112 4)") {
  Response response;
  response.status = 499;
  CHECK(serialise(response, {})->starts_with("HTTP/1.1 499 \r\n"));
}

TEST_CASE("dates are IMF-fixdates (RFC 9110 5.6.7)") {
  CHECK(http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK(http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK(http_date(1709164800) == "Thu, 29 Feb 2024 00:00:00 GMT");
}

}  // namespace
}  // namespace sluice::http
