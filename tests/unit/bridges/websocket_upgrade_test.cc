#include "bridges/websocket_upgrade.h"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <vector>

namespace sluice::bridges {
namespace {

// The example of RFC 6455 1.3.
constexpr const char* key = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr const char* accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

// A 101 as it should be, in which one thing may be changed.
http::ResponseHead good() {
  http::ResponseHead head;
  head.status = 101;
  head.headers = {
      {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", accept}};
  return head;
}

http::ResponseHead without(const std::string& name) {
  http::ResponseHead head = good();
  std::erase_if(head.headers, [&](const http::Header& field) { return field.name == name; });
  return head;
}

http::ResponseHead with(const std::string& name, const std::string& value) {
  http::ResponseHead head = without(name);
  head.headers.push_back({name, value});
  return head;
}

http::ResponseHead and_also(const std::string& name, const std::string& value) {
  http::ResponseHead head = good();
  head.headers.push_back({name, value});
  return head;
}

TEST_CASE("a 101 is taken for one only if RFC 6455 4.1 allows it") {
  struct Row {
    const char* what;
    http::ResponseHead head;
    std::string wrong;  // empty: it is right
  };
  http::ResponseHead old = good();
  old.version_minor = 0;
  const std::vector<Row> rows = {
      {"as it should be", good(), ""},
      {"in other letters", with("Upgrade", "WebSocket"), ""},
      {"one token among others", with("Connection", "keep-alive, upgrade"), ""},
      {"HTTP/1.0", old, "a 101 of HTTP/1.0"},
      {"no Upgrade", without("Upgrade"), "Upgrade is not websocket"},
      {"another Upgrade", with("Upgrade", "h2c"), "Upgrade is not websocket"},
      {"one more in the list", with("Upgrade", "websocket, h2c"), "Upgrade is not websocket"},
      {"two of them", and_also("Upgrade", "websocket"), "Upgrade is not websocket"},
      {"no Connection", without("Connection"), "Connection has no token upgrade"},
      {"another Connection", with("Connection", "close"), "Connection has no token upgrade"},
      {"a longer token", with("Connection", "upgraded"), "Connection has no token upgrade"},
      {"no accept", without("Sec-WebSocket-Accept"),
       "there is not exactly one Sec-WebSocket-Accept"},
      {"the accept of another key", with("Sec-WebSocket-Accept", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
       "Sec-WebSocket-Accept is wrong"},
      {"in other letters", with("Sec-WebSocket-Accept", "S3PPLMBITXAQ9KYGZZHZRBK+XOO="),
       "Sec-WebSocket-Accept is wrong"},
      {"the key itself", with("Sec-WebSocket-Accept", key), "Sec-WebSocket-Accept is wrong"},
      {"twice the same", and_also("Sec-WebSocket-Accept", accept),
       "there is not exactly one Sec-WebSocket-Accept"},
      {"an extension", and_also("Sec-WebSocket-Extensions", "permessage-deflate"),
       "an extension was not offered"},
      {"an empty list of extensions", and_also("Sec-WebSocket-Extensions", ""),
       "an extension was not offered"},
      {"a subprotocol that was offered", and_also("Sec-WebSocket-Protocol", "mqtt"), ""},
      {"one that was not", and_also("Sec-WebSocket-Protocol", "amqp"),
       "the subprotocol was not offered"},
      {"in other letters", and_also("Sec-WebSocket-Protocol", "MQTT"),
       "the subprotocol was not offered"},
      {"both of them", and_also("Sec-WebSocket-Protocol", "chat, mqtt"),
       "the subprotocol was not offered"},
      {"an empty one", and_also("Sec-WebSocket-Protocol", ""), "the subprotocol was not offered"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto switched = verify_switch(row.head, key, "chat, mqtt");
    CHECK((switched ? "" : switched.error().message) == row.wrong);
  }
}

TEST_CASE("two fields with one offered subprotocol each are no choice") {
  http::ResponseHead head = and_also("Sec-WebSocket-Protocol", "chat");
  head.headers.push_back({"Sec-WebSocket-Protocol", "mqtt"});
  const auto switched = verify_switch(head, key, "chat, mqtt");
  REQUIRE_FALSE(switched.has_value());
  CHECK(switched.error().message == "there are two subprotocols");
}

TEST_CASE("no subprotocol may be chosen if none was offered") {
  CHECK_FALSE(verify_switch(and_also("Sec-WebSocket-Protocol", "chat"), key, "").has_value());
  const auto none = verify_switch(good(), key, "chat");
  REQUIRE(none.has_value());
  CHECK(none->protocol.empty());
}

TEST_CASE("what the upstream has to say to the client is passed on, the rest is between us") {
  http::ResponseHead head = good();
  for (const http::Header& field : std::vector<http::Header>{{"Set-Cookie", "a=1; Path=/"},
                                                             {"set-cookie", "b=2"},
                                                             {"X-Session", "7"},
                                                             {"Server", "app"},
                                                             {"Date", "yesterday"},
                                                             {"Content-Type", "text/plain"},
                                                             {"Keep-Alive", "timeout=5"},
                                                             {"Sec-WebSocket-Protocol", "mqtt"},
                                                             {"Sec-WebSocket-Version", "13"}}) {
    head.headers.push_back(field);
  }
  const auto switched = verify_switch(head, key, "chat,mqtt");
  REQUIRE(switched.has_value());
  CHECK(switched->protocol == "mqtt");
  std::string fields;
  for (const auto& [name, value] : switched->headers) fields += name + ": " + value + "\n";
  CHECK(fields == "Set-Cookie: a=1; Path=/\nset-cookie: b=2\nX-Session: 7\nServer: app\n");
}

TEST_CASE("keys are 16 bytes in base64, and never twice the same") {
  std::set<std::string> keys;
  for (int i = 0; i < 1000; ++i) {
    const std::string fresh = fresh_key();
    CHECK(fresh.size() == 24);
    CHECK(fresh.ends_with("=="));
    keys.insert(fresh);
  }
  CHECK(keys.size() == 1000);
}

TEST_CASE("an upgrade has its five fields, and offers no extension") {
  http::Request client;
  client.headers = {{"Sec-WebSocket-Protocol", "chat,  mqtt"},
                    {"Sec-WebSocket-Extensions", "permessage-deflate"},
                    {"sec-websocket-protocol", "x"}};
  std::vector<http::Header> headers = {{"Host", "example.org"}};
  add_upgrade_fields(key, protocol_offer(client), "", headers);
  std::string fields;
  for (const auto& [name, value] : headers) fields += name + ": " + value + "\n";
  CHECK(fields ==
        "Host: example.org\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: chat,  mqtt, x\n");
}

}  // namespace
}  // namespace sluice::bridges
