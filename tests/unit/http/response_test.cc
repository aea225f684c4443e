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

TEST_CASE("1xx and 304 have no body and no length (RFC 9110 8.6)") {
  for (const int status : {101, 304}) {
    Response response;
    response.status = status;
    response.body = "x";
    const Result<std::string> wire = serialise(response, {});
    CHECK(wire->find("Content-Length") == std::string::npos);
    CHECK(wire->ends_with("\r\n\r\n"));
  }
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
