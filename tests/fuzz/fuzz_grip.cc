// What backends and publishers say in GRIP. The first byte says what the others are: 0 a control
// message, 1 the body of POST /publish/, 2 a Sec-WebSocket-Extensions field, 3 a key, a line break
// and a token.
//
// What must hold: nothing of it throws; text that goes on to a client is UTF-8, a close is one that
// may be sent, times have bounds; filters add no more than their bound; a token that was signed
// with another key is not taken.
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "bridges/grip.h"
#include "fuzz/input.h"
#include "ws/close_code.h"

namespace {

using namespace sluice;
using namespace sluice::bridges;
using fuzz::Input;
using fuzz::require;

constexpr std::uint64_t week_ms = 7 * 24 * 3600 * 1000;
constexpr std::int64_t now_s = 1'700'000'000;

bool is_text(std::string_view text) {
  return is_valid_utf8(as_bytes(text));
}

void check_content(const GripContent& content) {
  require(content.type != GripMessageType::text || is_text(content.bytes), "a text is UTF-8");
}

void check_control(std::string_view json) {
  using Type = GripControl::Type;
  const auto control = parse_control(json);
  if (!control) return;
  const bool named = control->type == Type::subscribe || control->type == Type::unsubscribe ||
                     control->type == Type::set_meta;
  require(named != control->name.empty(), "a name where one belongs");
  require(is_text(control->name) && is_text(control->value.value_or("")), "names are UTF-8");
  if (control->content) {
    check_content(*control->content);
    require(control->timeout_ms >= 1000 && control->timeout_ms <= week_ms, "a time with bounds");
  }
  require(control->content.has_value() || control->type != Type::send_delayed,
          "what is to be sent later is there");
}

// ---- Publishing

void check_filtered(const Published& item, const GripReceiver& receiver) {
  passes_filters(item, receiver);
  for (const std::size_t bytes_max : {std::size_t{16}, std::size_t{1'000'000}}) {
    std::string buffer;
    const auto content = filtered_content(item, receiver, bytes_max, buffer);
    if (!content) continue;
    require(content->size() <= bytes_max || *content == item.content.bytes, "no more than allowed");
    require(item.content.type != GripMessageType::text || is_text(*content),
            "a text is UTF-8 behind its filters too");
  }
}

void check_item(const Published& item) {
  require(!item.channel.empty(), "a channel");
  check_content(item.content);
  require(!item.code || ws::may_be_on_the_wire(*item.code), "a code that may be sent");
  require(item.reason.size() <= ws::close_reason_bytes_max && is_text(item.reason),
          "a reason that may be sent");
  const std::vector<std::string> filters = {"skip-self", "skip-users", "require-sub", "var-subst"};
  const std::set<std::string, std::less<>> channels = {item.channel};
  GripMeta meta = item.meta;  // names that may stand in the content
  meta["user"] = "alice";
  meta["long"] = std::string(1000, 'x');
  check_filtered(item, {filters, meta, channels});
  check_filtered(item, {{}, {}, {}});
}

void check_publish(std::string_view json) {
  const auto items = parse_publish(json);
  if (!items) {
    // It goes into the answer.
    return require(!items.error().message.empty() && is_text(items.error().message), "a reason");
  }
  for (const Published& item : *items) check_item(item);
}

// ---- The extension, keys and tokens

void check_extension(std::string_view field) {
  const auto extension = parse_grip_extension(field);
  if (!extension) return;
  require(extension->message_prefix.size() <= field.size() || extension->message_prefix == "m:",
          "a prefix that stands there");
}

void check_token(std::string_view text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string key = decode_grip_key(text.substr(0, end));
  const std::string_view rest = text.substr(std::min(end + 1, text.size()));
  require(!is_valid_token(rest, "a key that nobody knows", now_s), "nobody guesses a signature");
  is_valid_token(rest, key, now_s);
  // What the input may choose is who sends it.
  const std::string token = sign_grip_token(key, rest, now_s);
  require(is_valid_token(token, key, now_s) == !key.empty(), "our own token, but for no key");
  require(!is_valid_token(token, key + "x", now_s), "signed with another key");
  require(!is_valid_token(token, key, now_s + 3601), "an hour later");
  std::string changed = token;
  changed[text.size() % changed.size()] ^= 1;
  require(!is_valid_token(changed, key, now_s), "changed in one bit");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const unsigned kind = input.byte() % 4;
  const std::string_view text = as_text(input.rest());
  if (kind == 0) check_control(text);
  if (kind == 1) check_publish(text);
  if (kind == 2) check_extension(text);
  if (kind == 3) check_token(text);
  return 0;
}
