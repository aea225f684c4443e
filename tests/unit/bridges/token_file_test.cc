#include "bridges/token_file.h"

#include <doctest/doctest.h>

#include <string>

using namespace sluice::bridges;

namespace {

std::string error_of(std::string_view text) {
  const auto parsed = parse_tokens(text);
  return parsed ? "none" : parsed.error().message;
}

}  // namespace

TEST_CASE("token file: what websockify reads, with addresses as routes.yaml writes them") {
  const auto parsed = parse_tokens(
      "# the desks\r\n"
      "\n"
      "  ward-3: 10.0.0.5:5901  \r\n"
      "name:\tdesk.example:5902\n"
      "v6: fd00::7:5903\n"
      "v6b:   [fd00::8]:5904\n"
      "unix: unix_socket:/run/vnc.sock\n"
      "with:colon: 10.0.0.6:5905\n"
      "with blank: 10.0.0.7:5906\n"
      "twice: 10.0.0.8:1\n"
      "  # twice: 10.0.0.8:3\n"
      "twice: 10.0.0.8:2");
  REQUIRE_MESSAGE(parsed.has_value(), parsed.error().message);
  CHECK(*parsed == Tokens{{"ward-3", "10.0.0.5:5901"},
                          {"name", "desk.example:5902"},
                          {"v6", "[fd00::7]:5903"},
                          {"v6b", "[fd00::8]:5904"},
                          {"unix", "unix:/run/vnc.sock"},
                          {"with:colon", "10.0.0.6:5905"},
                          {"with blank", "10.0.0.7:5906"},
                          {"twice", "10.0.0.8:2"}});
}

TEST_CASE("token file: a file without tokens has none") {
  CHECK(parse_tokens("").value().empty());
  CHECK(parse_tokens("\n\n").value().empty());
  CHECK(parse_tokens("# nothing").value().empty());
}

TEST_CASE("token file: a line that is no token is an error with its number") {
  CHECK(error_of("a: h:1\n\nb h:1") == "line 3: expected \"token: host:port\"");
  CHECK(error_of("a:h:1") == "line 1: expected \"token: host:port\"");
  CHECK(error_of("a:") == "line 1: expected \"token: host:port\"");
  CHECK(error_of("a: b: h:1") == "line 1: expected \"token: host:port\"");
  CHECK(error_of(": h:1") == "line 1: no token before the colon");
  CHECK(error_of("a : h:1") == "line 1: a blank between the token and its colon");
  CHECK(error_of(std::string("a\0b: h:1", 8)) == "line 1: a control character");
  CHECK(error_of("a: h\x1b:1") == "line 1: a control character");

  const std::string target = "line 1: expected host:port or unix_socket:/path behind the token";
  CHECK(error_of("a: h") == target);
  CHECK(error_of("a: :1") == target);
  CHECK(error_of("a: h:") == target);
  CHECK(error_of("a: h:0") == target);
  CHECK(error_of("a: h:65536") == target);
  CHECK(error_of("a: h:-1") == target);
  CHECK(error_of("a: h:+1") == target);
  CHECK(error_of("a: h:1x") == target);
  CHECK(error_of("a: h i:1") == target);
  CHECK(error_of("a: unix_socket:run/vnc") == target);
  CHECK(error_of("a: unix_socket:") == target);
}
