// What the scanner refuses by itself, whatever llhttp's version would let pass.
#include "http/head_scanner.h"

#include <doctest/doctest.h>

#include <ostream>
#include <string>
#include <vector>

namespace sluice::http {
namespace {

using namespace std::string_literals;

TEST_CASE("the scanner by itself refuses whatever the grammar does not allow (RFC 9112 2 to 5)") {
  const std::string line = "GET / HTTP/1.1\r\n";
  for (const std::string& head : {
           line + "X: a\rb"s,
           line + "X: a\n"s,
           line + "\r\r"s,
           line + "\rX"s,
           line + "X: a\0"s,
           line + "X: a\x7f"s,
           line + "X "s,
           line + ":"s,
           line + " "s,
           line + "X: a\r\n "s,
           line + "X\r"s,
           line + "X\n"s,
           "GET / HTTP/1.1\n"s,
           "GET / HTTP/1.1 "s,
           "GET  "s,
           "GET /\t"s,
           "GET /\n"s,
           "GET /\x80"s,
           "GET / h"s,
           "GET / HTTP/1.x"s,
           "G\0"s,
           " "s,
       }) {
    CAPTURE(head);
    HeadScanner scanner({100, 32768, 8192});
    // Everything passes but the last byte.
    CHECK(scanner.scan(as_bytes(head)) == head.size() - 1);
    REQUIRE(scanner.error().has_value());
    CHECK(scanner.error()->status == 400);
    CHECK(scanner.scan(as_bytes("X")) == 0);
  }
}

TEST_CASE("the scanner stops at the end of the head") {
  HeadScanner scanner({100, 32768, 8192});
  CHECK(scanner.scan(as_bytes("GET / HTTP/1.1\r\nX: a\r\n\r\nmore")) == 24);
  CHECK(scanner.done());
  CHECK_FALSE(scanner.error().has_value());
}

TEST_CASE("the scanner stops at the limit, in the midst of a value too, whatever has come") {
  const std::string head = "GET / HTTP/1.1\r\nX: a\tbcdefghijklmnopqrstuvwxyz\r\n\r\n";
  for (std::uint32_t limit = 1; limit < head.size(); ++limit) {
    CAPTURE(limit);
    HeadScanner scanner({100, limit, 8192});
    CHECK(scanner.scan(as_bytes(head)) == limit);
    REQUIRE(scanner.error().has_value());
    const bool in_target = limit == 4 || limit == 5;  // the slash, and the space behind it
    CHECK(scanner.error()->status == (in_target ? 414 : 431));
  }
  HeadScanner scanner({100, static_cast<std::uint32_t>(head.size()), 8192});
  CHECK(scanner.scan(as_bytes(head)) == head.size());
  CHECK(scanner.done());
}

}  // namespace
}  // namespace sluice::http
