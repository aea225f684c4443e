#include "bridges/grip.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/crypto.h"

using namespace sluice;
using namespace sluice::bridges;

namespace {

// The message prefix, or "none".
std::string prefix(std::string_view field) {
  const auto extension = parse_grip_extension(field);
  return extension ? "'" + extension->message_prefix + "'" : "none";
}

Published item(const std::string& json) {
  const auto items = parse_publish(R"({"items":[)" + json + "]}");
  REQUIRE_MESSAGE(items.has_value(), items.error().message);
  REQUIRE(items->size() == 1);
  return items->front();
}

std::string problem(const std::string& body) {
  const auto items = parse_publish(body);
  return items ? "none" : items.error().message;
}

}  // namespace

TEST_CASE("the extension grip among others") {
  CHECK(prefix("grip") == "'m:'");
  CHECK(prefix("GRIP") == "'m:'");
  CHECK(prefix(R"(grip; message-prefix="")") == "''");
  CHECK(prefix(R"(grip;message-prefix="x;,y")") == "'x;,y'");
  CHECK(prefix(R"(grip; Message-Prefix="a\"b")") == "'a\"b'");
  CHECK(prefix("grip; message-prefix=plain; other=1") == "'plain'");
  CHECK(prefix("permessage-deflate; x=\"grip\", grip; y") == "'m:'");
  CHECK(prefix("") == "none");
  CHECK(prefix("gripper") == "none");
  CHECK(prefix("permessage-deflate; grip") == "none");
  CHECK(prefix(R"(grip; message-prefix="open)") == "none");
  CHECK(prefix(R"(x="grip, grip")") == "none");
}

TEST_CASE("control messages") {
  using Type = GripControl::Type;
  const auto subscribe = parse_control(R"({"type":"subscribe","channel":"a","filters":["f","g"]})");
  REQUIRE(subscribe);
  CHECK(subscribe->type == Type::subscribe);
  CHECK(subscribe->name == "a");
  CHECK(subscribe->filters == std::vector<std::string>{"f", "g"});

  CHECK(parse_control(R"({"type":"unsubscribe","channel":"a"})")->type == Type::unsubscribe);
  CHECK(parse_control(R"({"type":"detach"})")->type == Type::detach);
  CHECK(parse_control(R"({"type":"session","id":"s"})")->type == Type::session);
  CHECK(parse_control(R"({"type":"flush-delayed"})")->type == Type::flush_delayed);

  const auto meta = parse_control(R"({"type":"set-meta","name":"user","value":"alice"})");
  REQUIRE(meta);
  CHECK(meta->name == "user");
  CHECK(meta->value == "alice");
  CHECK_FALSE(parse_control(R"({"type":"set-meta","name":"user"})")->value);

  const auto keep_alive = parse_control(R"({"type":"keep-alive","content":"k"})");
  REQUIRE(keep_alive);
  CHECK(keep_alive->content->bytes == "k");
  CHECK(keep_alive->content->type == GripMessageType::text);
  CHECK(keep_alive->timeout_ms == 55'000);
  CHECK_FALSE(keep_alive->interval);
  const auto interval =
      parse_control(R"({"type":"keep-alive","content-bin":"AAE=","timeout":20,"mode":"interval"})");
  REQUIRE(interval);
  CHECK(interval->content->bytes == std::string("\0\1", 2));
  CHECK(interval->content->type == GripMessageType::binary);
  CHECK(interval->timeout_ms == 20'000);
  CHECK(interval->interval);
  CHECK(
      parse_control(R"({"type":"keep-alive","content":"","message-type":"ping"})")->content->type ==
      GripMessageType::ping);
  CHECK_FALSE(parse_control(R"({"type":"keep-alive"})")->content);

  const auto delayed = parse_control(R"({"type":"send-delayed","content":"d"})");
  REQUIRE(delayed);
  CHECK(delayed->timeout_ms == 1'000);
}

TEST_CASE("malformed control messages are none") {
  for (const char* json : {"",
                           "{",
                           "[]",
                           "1",
                           "\"subscribe\"",
                           "{}",
                           R"({"type":1})",
                           R"({"type":"dance"})",
                           R"({"type":"subscribe"})",
                           R"({"type":"subscribe","channel":""})",
                           R"({"type":"subscribe","channel":7})",
                           R"({"type":"subscribe","channel":"a","filters":"f"})",
                           R"({"type":"subscribe","channel":"a","filters":[1]})",
                           R"({"type":"set-meta"})",
                           R"({"type":"set-meta","name":"n","value":1})",
                           R"({"type":"keep-alive","content":1})",
                           R"({"type":"keep-alive","content":"k","timeout":0})",
                           R"({"type":"keep-alive","content":"k","timeout":-1})",
                           R"({"type":"keep-alive","content":"k","timeout":1.5})",
                           R"({"type":"keep-alive","content":"k","timeout":99999999999999})",
                           R"({"type":"keep-alive","content":"k","mode":"often"})",
                           R"({"type":"keep-alive","content-bin":"#"})",
                           R"({"type":"send-delayed"})",
                           R"({"type":"send-delayed","content":"k","message-type":"video"})",
                           "{\"type\":\"subscribe\",\"channel\":\"\xff\"}"}) {
    CAPTURE(json);
    CHECK_FALSE(parse_control(json));
  }
  CHECK_FALSE(parse_control(std::string(100'000, '[')));
}

TEST_CASE("what is published") {
  const Published text = item(R"({"channel":"a","id":"2","prev-id":"1","meta":{"sender":"bob"},
                                  "formats":{"ws-message":{"content":"hi"},"http-stream":{}}})");
  CHECK(text.channel == "a");
  CHECK(text.id == "2");
  CHECK(text.previous_id == "1");
  CHECK(text.sequenced);
  CHECK(text.meta.at("sender") == "bob");
  CHECK(text.action == Published::Action::send);
  CHECK(text.content.type == GripMessageType::text);
  CHECK(text.content.bytes == "hi");

  const Published binary =
      item(R"({"channel":"a","no-seq":true,"ws-message":{"content-bin":"AAE="}})");
  CHECK(binary.content.type == GripMessageType::binary);
  CHECK(binary.content.bytes == std::string("\0\1", 2));
  CHECK_FALSE(binary.sequenced);
  CHECK(item(R"({"channel":"a","ws-message":{"content":"x","type":"binary"}})").content.type ==
        GripMessageType::binary);
  CHECK(item(R"({"channel":"a","ws-message":{"content-bin":"eA==","type":"text"}})").content.type ==
        GripMessageType::text);
  CHECK(item(R"({"channel":"a","ws-message":{"type":"ping"}})").content.type ==
        GripMessageType::ping);

  const Published close =
      item(R"({"channel":"a","ws-message":{"action":"close","code":4001,"reason":"bye"}})");
  CHECK(close.action == Published::Action::close);
  CHECK(close.code == 4001);
  CHECK(close.reason == "bye");
  CHECK_FALSE(item(R"({"channel":"a","ws-message":{"action":"close"}})").code);
  CHECK(item(R"({"channel":"a","ws-message":{"action":"refresh"}})").action ==
        Published::Action::refresh);
  CHECK(item(R"({"channel":"a","ws-message":{"action":"hint"}})").action ==
        Published::Action::none);
  CHECK(item(R"({"channel":"a","formats":{"http-response":{"body":"x"}}})").action ==
        Published::Action::none);
  CHECK(parse_publish(R"({"items":[]})")->empty());
}

TEST_CASE("what is published wrongly") {
  CHECK(problem("") == "Body is not valid JSON.");
  CHECK(problem("{\"items\":[{\"channel\":\"\xff\"}]}") == "Body is not valid JSON.");
  CHECK(problem("[]") == "Invalid format: no list of 'items'.");
  CHECK(problem(R"({"items":{}})") == "Invalid format: no list of 'items'.");
  CHECK(problem(R"({"items":[1]})") == "Invalid format: an item is no object.");
  CHECK(problem(R"({"items":[{"ws-message":{"content":"x"}}]})") ==
        "Invalid format: 'channel' is missing.");
  const std::string long_id(1025, 'x');
  CHECK(problem(R"({"items":[{"channel":"a","id":")" + long_id + "\"}]}") ==
        "Invalid format: 'id' has more than 1024 bytes.");
  CHECK(problem(R"({"items":[{"channel":"a","prev-id":")" + long_id + "\"}]}") ==
        "Invalid format: 'prev-id' has more than 1024 bytes.");
  const auto format = [](const std::string& text) {
    return problem(R"({"items":[{"channel":"a","formats":{"ws-message":)" + text + "}}]}");
  };
  CHECK(format("7") == "Invalid format: 'ws-message' is no object.");
  CHECK(format("{}") == "Invalid format: 'content' is missing or no text.");
  CHECK(format(R"({"content":7})") == "Invalid format: 'content' is missing or no text.");
  CHECK(format(R"({"content-bin":"a"})") == "Invalid format: 'content-bin' is not base64.");
  CHECK(format(R"({"content-bin":"/w==","type":"text"})") ==
        "Invalid format: the content of a text message is not UTF-8.");
  CHECK(format(R"({"content":"x","type":"video"})") == "Invalid format: unknown 'type'.");
  CHECK(format(R"({"action":"dance"})") == "Invalid format: unknown 'action'.");
  for (const char* code : {"0", "-1", "1005", "1006", "1015", "2999", "5000", "99999", "1.5"}) {
    CHECK(format(std::string(R"({"action":"close","code":)") + code + "}").starts_with("Invalid"));
  }
  CHECK(format(R"({"action":"close","reason":")" + std::string(124, 'x') + "\"}")
            .starts_with("Invalid format: 'reason'"));
  CHECK(problem(R"({"items":[{"channel":"a","id":7}]})") == "Invalid format: 'id' is no text.");
  CHECK(problem(R"({"items":[{"channel":"a","meta":{"x":7}}]})") ==
        "Invalid format: the value of 'x' in 'meta' is no text.");
}

TEST_CASE("filters") {
  const std::vector<std::string> all = {"skip-self", "skip-users", "require-sub"};
  const std::vector<std::string> none;
  const GripMeta alice = {{"user", "alice"}};
  const GripMeta nobody;
  const std::set<std::string, std::less<>> channels = {"a"};
  const auto passes = [&](const GripMeta& meta, const std::vector<std::string>& filters,
                          const GripMeta& receiver) {
    return passes_filters({.channel = "a", .meta = meta}, {filters, receiver, channels});
  };
  CHECK(passes({}, all, alice));
  CHECK_FALSE(passes({{"sender", "alice"}}, all, alice));
  CHECK(passes({{"sender", "alice"}}, none, alice));
  CHECK(passes({{"sender", "bob"}}, all, alice));
  CHECK(passes({{"sender", ""}}, all, nobody));
  CHECK_FALSE(passes({{"skip_users", "bob, alice"}}, all, alice));
  CHECK(passes({{"skip_users", "bob,alicia"}}, all, alice));
  CHECK(passes({{"require_sub", "a"}}, all, alice));
  CHECK_FALSE(passes({{"require_sub", "b"}}, all, alice));
  CHECK(passes({{"require_sub", "b"}}, none, alice));
}

TEST_CASE("variables in what is published") {
  const std::vector<std::string> filters = {"var-subst"};
  const std::vector<std::string> none;
  const GripMeta meta = {{"name", "Ann"}, {"x", ""}};
  const std::set<std::string, std::less<>> channels;
  std::string buffer;
  const auto substituted = [&](const std::string& content, std::size_t bytes_max = 1000) {
    const Published item{.channel = "a", .content = {GripMessageType::text, content}};
    return std::string(
        filtered_content(item, {filters, meta, channels}, bytes_max, buffer).value_or("too long"));
  };
  CHECK(substituted("") == "");
  CHECK(substituted("plain") == "plain");
  CHECK(substituted("hi %(name)s, %(name)s") == "hi Ann, Ann");
  CHECK(substituted("%(x)s|%(y)s|%(") == "|%(y)s|%(");
  CHECK(substituted("%(name)s", 3) == "Ann");
  CHECK(substituted("%(name)s", 2) == "too long");

  const Published item{.channel = "a", .content = {GripMessageType::text, "%(name)s"}};
  CHECK(filtered_content(item, {none, meta, channels}, 1000, buffer) == "%(name)s");
  const Published asking{.channel = "a",
                         .content = {GripMessageType::text, "%(name)s"},
                         .content_filters = {"var-subst"}};
  CHECK(filtered_content(asking, {none, meta, channels}, 1000, buffer) == "Ann");
}

TEST_CASE("keys and tokens") {
  CHECK(decode_grip_key("changeme") == "changeme");
  CHECK(decode_grip_key("base64:Y2hhbmdlbWU=") == "changeme");
  CHECK(decode_grip_key("base64:#") == "base64:#");
  CHECK(decode_grip_key("").empty());

  // The example of RFC 7515 appendix A.1.
  const std::string key =
      base64url_decode(
          "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hc"
          "gUuTwjAzZr1Z9CAow")
          .value();
  const std::string token =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl"
      "fQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  CHECK(is_valid_token(token, key, 1300819379));
  CHECK_FALSE(is_valid_token(token, key, 1300819380));
  CHECK_FALSE(is_valid_token(token, key + "x", 1300819379));
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::string forged = token;
    forged[i] = forged[i] == 'A' ? 'B' : 'A';
    CHECK_FALSE(is_valid_token(forged, key, 1300819379));
    CHECK_FALSE(is_valid_token(token.substr(0, i), key, 1300819379));
  }

  const std::string ours = sign_grip_token("secret", "sluice", 1'700'000'000);
  CHECK(ours.starts_with("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9."));
  CHECK(is_valid_token(ours, "secret", 1'700'003'599));
  CHECK_FALSE(is_valid_token(ours, "secret", 1'700'003'600));
  const std::size_t dot = ours.find('.');
  CHECK(base64url_decode(ours.substr(dot + 1, ours.rfind('.') - dot - 1)) ==
        R"({"exp":1700003600,"iss":"sluice"})");
}

TEST_CASE("tokens of other algorithms, and without a time") {
  const auto token = [](std::string_view header, std::string_view claims) {
    const std::string text = base64url(as_bytes(header)) + "." + base64url(as_bytes(claims));
    return text + "." + base64url(hmac_sha256(as_bytes("secret"), as_bytes(text)));
  };
  const auto valid = [&](std::string_view header, std::string_view claims) {
    return is_valid_token(token(header, claims), "secret", 1000);
  };
  CHECK(valid(R"({"alg":"HS256"})", "{}"));
  CHECK(valid(R"({"alg":"HS256"})", R"({"exp":1000.5,"nbf":1000})"));
  CHECK_FALSE(valid(R"({"alg":"none"})", "{}"));
  CHECK_FALSE(valid(R"({"alg":"HS512"})", "{}"));
  CHECK_FALSE(valid("{}", "{}"));
  CHECK_FALSE(valid(R"({"alg":"HS256"})", "[]"));
  CHECK_FALSE(valid(R"({"alg":"HS256"})", R"({"exp":"2000"})"));
  CHECK_FALSE(valid(R"({"alg":"HS256"})", R"({"nbf":1001})"));
  CHECK_FALSE(is_valid_token("", "secret", 1000));
  // A key of no bytes has everybody.
  CHECK_FALSE(is_valid_token(sign_grip_token("", "me", 1000), "", 1000));
  CHECK_FALSE(is_valid_token("..", "secret", 1000));
}
