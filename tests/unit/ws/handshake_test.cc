#include "ws/handshake.h"

#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include "base/crypto.h"

using namespace sluice;
using namespace sluice::ws;

namespace {

using List = std::vector<std::string>;

std::string error_of(std::string_view value) {
  const auto offered = parse_protocols(value);
  return offered ? "" : offered.error().message;
}

}  // namespace

TEST_CASE("the accept key is that of the example in RFC 6455 1.3") {
  CHECK(accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST_CASE("a key is 16 bytes in base64 (RFC 6455 4.2.1)") {
  CHECK(is_valid_key("dGhlIHNhbXBsZSBub25jZQ=="));
  CHECK(is_valid_key("AQIDBAUGBwgJCgsMDQ4PEC=="));  // RFC 6455 4.1's own, with unused bits set
  CHECK(is_valid_key("++++++++++++++/////+AA=="));
  CHECK_FALSE(is_valid_key(""));
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub25jZQ"));   // no padding
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub25jZQ="));  // half of it
  CHECK_FALSE(
      is_valid_key("dGhlIHNhbXBsZSBub25jZQ=="
                   " "));                                 // white space
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub25jZQA="));  // 17 bytes
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub25jZQAA"));  // 18 bytes
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub25j"));      // 15 bytes
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub25jZ==="));
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub2-jZQ=="));  // of the URL alphabet
  CHECK_FALSE(is_valid_key("dGhlIHNhbX=sZSBub25jZQ=="));
  CHECK_FALSE(is_valid_key("dGhlIHNhbXBsZSBub2\xc3\xa9jZQ=="));
  CHECK_FALSE(is_valid_key("==dGhlIHNhbXBsZSBub25jZQ"));
}

TEST_CASE("a client's key is valid and new each time (RFC 6455 4.1)") {
  const std::string key = make_key();
  CHECK(is_valid_key(key));
  CHECK(base64_decode(key)->size() == 16);
  CHECK(make_key() != key);
}

TEST_CASE("offered subprotocols are read in their order (RFC 6455 4.1)") {
  CHECK(*parse_protocols("chat") == List{"chat"});
  CHECK(*parse_protocols("chat, superchat") == List{"chat", "superchat"});
  CHECK(*parse_protocols("b,a") == List{"b", "a"});
  CHECK(*parse_protocols(" \tchat\t ,\t superchat \t") == List{"chat", "superchat"});
  CHECK(*parse_protocols("v1.x!#$%&'*+-^_`|~9") == List{"v1.x!#$%&'*+-^_`|~9"});
  CHECK(*parse_protocols("chat, Chat") == List{"chat", "Chat"});  // compared exactly
  CHECK(*parse_protocols("constructor, __proto__") == List{"constructor", "__proto__"});
}

TEST_CASE("empty elements of the list are ignored (RFC 9110 5.6.1.2)") {
  CHECK(*parse_protocols(",chat, ,superchat,") == List{"chat", "superchat"});
}

TEST_CASE("a list without a subprotocol is an error (RFC 6455 4.3)") {
  for (const char* value : {"", " ", ",", " , \t,, "}) {
    CHECK(error_of(value) == "the list of subprotocols is empty");
  }
}

TEST_CASE("what is not a token is an error (RFC 6455 4.1, RFC 9110 5.6.2)") {
  for (const char character : std::string("()<>@;:\\\"/[]?={} \t\r\n\x7f\x01\x80\xff")) {
    INFO("character " << static_cast<int>(character));
    CHECK(error_of("a" + std::string(1, character) + "b") == "a subprotocol is not a token");
  }
  CHECK(error_of(std::string("a\0b", 3)) == "a subprotocol is not a token");
  CHECK(error_of("\"chat\"") == "a subprotocol is not a token");
  CHECK(error_of("chat; level=1") == "a subprotocol is not a token");
}

TEST_CASE("a subprotocol offered twice is an error (RFC 6455 4.1)") {
  CHECK(error_of("chat, superchat, chat") == "a subprotocol is offered twice");
}

TEST_CASE("at most 32 subprotocols may be offered (hostile-inputs row 12)") {
  std::string value = "p0";
  for (int i = 1; i < 32; ++i) value += ",p" + std::to_string(i);
  CHECK(parse_protocols(value)->size() == 32);
  CHECK(error_of(value + ",p32") == "too many subprotocols");
}

TEST_CASE("hostile lists take linear time (hostile-inputs row 12)") {
  // What is quadratic at this size takes minutes; what is linear takes milliseconds.
  const std::size_t size = 4'000'000;
  std::string commas(size, ','), spaces(size, ' '), mixed, distinct;
  while (mixed.size() < size) mixed += " ,\t";
  for (int i = 0; distinct.size() < size; ++i) distinct += "p" + std::to_string(i) + ", ";
  const std::string long_token(size / 2, 'x');
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(parse_protocols(commas));
  CHECK_FALSE(parse_protocols(spaces));
  CHECK_FALSE(parse_protocols(mixed));
  CHECK_FALSE(parse_protocols(distinct));
  CHECK(parse_protocols(spaces + "a" + spaces + "," + spaces + "b"));
  CHECK(parse_protocols(long_token + "," + long_token + "y"));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}

TEST_CASE("the server's preference decides the subprotocol (RFC 6455 4.2.2)") {
  CHECK(select_protocol({"a", "b"}, {"b", "a"}) == "b");
  CHECK(select_protocol({"a"}, {"b", "a"}) == "a");
  CHECK_FALSE(select_protocol({"A"}, {"a"}));
  CHECK_FALSE(select_protocol({"a"}, {}));
  CHECK_FALSE(select_protocol({}, {"a"}));
}
