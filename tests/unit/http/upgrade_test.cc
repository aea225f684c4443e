#include "http/upgrade.h"

#include <chrono>
#include <ostream>

#include "heads.h"

namespace sluice::http {
namespace {

using Kind = Refusal::Kind;

const std::string key_line = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const std::string version_line = "Sec-WebSocket-Version: 13\r\n";
const std::string upgrade_lines = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
const std::string good_lines = upgrade_lines + key_line + version_line;

// The status of a handshake with these lines; 101 if it is good.
int status_of(const std::string& lines, std::string_view method = "GET") {
  const Request read = request(std::string(method) + get("/echo", lines).substr(3));
  const auto upgrade = validate_upgrade(read);
  return upgrade ? 101 : upgrade.error().status;
}

TEST_CASE("the example of RFC 6455 1.3 is a good handshake") {
  const Request read =
      request(get("/chat", good_lines + "Sec-WebSocket-Protocol: chat, superchat\r\n"
                                        "Origin: http://example.com\r\n"));
  CHECK(is_upgrade_attempt(read));
  const auto upgrade = validate_upgrade(read);
  REQUIRE(upgrade.has_value());
  CHECK(upgrade->key == "dGhlIHNhbXBsZSBub25jZQ==");
  CHECK(upgrade->offered_protocols == std::vector<std::string>{"chat", "superchat"});
}

TEST_CASE("tokens are compared without case, in lists over several fields (RFC 6455 4.2.1)") {
  const std::string rest = key_line + version_line;
  CHECK(status_of("UPGRADE: WebSocket\r\nconnection: keep-alive, uPGRADE\r\n" + rest) == 101);
  CHECK(status_of("Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n" +
                  rest) == 101);
}

TEST_CASE("any version but 13 is answered with 13 (RFC 6455 4.4)") {
  for (const char* version : {"8", "99", "013", "13, 13", "13, 8", "", "thirteen"}) {
    CAPTURE(version);
    const Request read = request(
        get("/echo", upgrade_lines + key_line + "Sec-WebSocket-Version: " + version + "\r\n"));
    const auto upgrade = validate_upgrade(read);
    REQUIRE_FALSE(upgrade.has_value());
    CHECK(upgrade.error().kind == Kind::version);
    CHECK(upgrade.error().status == 426);
    CHECK(upgrade.error().headers.front().name == "Sec-WebSocket-Version");
    CHECK(upgrade.error().headers.front().value == "13");
  }
  CHECK(status_of(good_lines + version_line) == 426);
  CHECK(status_of(upgrade_lines + key_line) == 426);
}

TEST_CASE("only GET, and without a body (RFC 6455 4.2.1)") {
  for (const char* method : {"POST", "HEAD", "PUT", "OPTIONS"})
    CHECK(status_of(good_lines, method) == 405);
  CHECK(status_of(good_lines + "Content-Length: 5\r\n") == 400);
  CHECK(status_of(good_lines + "Transfer-Encoding: chunked\r\n") == 400);
  CHECK(status_of(good_lines + "Content-Length: 0\r\n") == 101);
}

TEST_CASE("only the exact token websocket is upgradable (RFC 9110 7.8)") {
  const std::string rest = "Connection: Upgrade, HTTP2-Settings\r\n" + key_line + version_line;
  for (const char* value : {"h2c", "websocket, h2c", "h2c, websocket", "websocket/13", "websockets",
                            "\"websocket\"", ""}) {
    CAPTURE(value);
    const Request read = request(get("/echo", "Upgrade: " + std::string(value) + "\r\n" + rest));
    CHECK_FALSE(is_upgrade_attempt(read));
    const auto upgrade = validate_upgrade(read);
    REQUIRE_FALSE(upgrade.has_value());
    CHECK(upgrade.error().kind == Kind::not_websocket);
    CHECK(upgrade.error().status == 426);
    CHECK(upgrade.error().headers.front().name == "Upgrade");
  }
  CHECK(status_of("Upgrade: websocket\r\nUpgrade: h2c\r\n" + rest) == 426);
  CHECK(status_of(rest) == 426);
}

TEST_CASE("an Upgrade with HTTP/1.0 is ignored (RFC 9110 7.8)") {
  CHECK_FALSE(is_upgrade_attempt(request("GET / HTTP/1.0\r\nHost: a\r\n" + good_lines + "\r\n")));
}

TEST_CASE("Connection must contain Upgrade (RFC 6455 4.2.1)") {
  const std::string rest = "Upgrade: websocket\r\n" + key_line + version_line;
  CHECK(status_of(rest) == 400);
  CHECK(status_of(rest + "Connection: keep-alive\r\n") == 400);
  CHECK(status_of(rest + "Connection: upgraded\r\n") == 400);
}

TEST_CASE("the key is 16 bytes in base64, once (RFC 6455 4.2.1)") {
  const std::string rest = upgrade_lines + version_line;
  CHECK(status_of(rest) == 400);
  CHECK(status_of(rest + key_line + key_line) == 400);
  for (const char* key :
       {"", "AAAA", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZTE=",
        "dGhlIHNhbXBsZSBub25jZTEy", "dGhl*HNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j ZQ=="}) {
    CAPTURE(key);
    CHECK(status_of(rest + "Sec-WebSocket-Key: " + key + "\r\n") == 400);
  }
}

TEST_CASE("the unused bits of a key's last character are not looked at (RFC 6455 4.1's example)") {
  CHECK(status_of(upgrade_lines + version_line +
                  "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n") == 101);
}

TEST_CASE("subprotocols are unique tokens (RFC 6455 4.1, RFC 9110 5.6.1)") {
  const auto offer = [](std::string_view list) {
    return status_of(good_lines + "Sec-WebSocket-Protocol: " + std::string(list) + "\r\n");
  };
  CHECK(offer("a") == 101);
  CHECK(offer(" a ,\tb,, c ,") == 101);
  CHECK(offer("constructor, __proto__") == 101);
  CHECK(offer("a, A") == 101);
  for (const char* list : {"", " , ,", "a, a", "a b", "\"a\"", "a;b", "a/b", "a, \xe4\xbd\xa0"}) {
    CAPTURE(list);
    CHECK(offer(list) == 400);
  }
  std::string many = "p0";
  for (int i = 1; i < 32; ++i) many += ",p" + std::to_string(i);
  CHECK(offer(many) == 101);
  CHECK(offer(many + ",p32") == 400);
  const Request twice =
      request(get("/", good_lines + "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n"));
  CHECK(validate_upgrade(twice)->offered_protocols == std::vector<std::string>{"a", "b"});
}

TEST_CASE("extensions that are offered are declined, whatever they look like") {
  std::string crafted = "permessage-deflate";
  for (int i = 0; i < 10'000; ++i) crafted += ";=";
  CHECK(status_of(good_lines + "Sec-WebSocket-Extensions: " + crafted + "\r\n") == 101);
  CHECK(status_of(good_lines + "Sec-WebSocket-Extensions: \"\\\"\r\n") == 101);
}

}  // namespace
}  // namespace sluice::http
