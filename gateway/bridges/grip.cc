#include "bridges/grip.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/crypto.h"
#include "base/field.h"
#include "base/utf8.h"
#include "ws/close_code.h"

namespace sluice::bridges {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t keep_alive_default_ms = 55'000;
constexpr std::uint64_t delay_default_ms = 1'000;
constexpr std::uint64_t timeout_seconds_max = 7 * 24 * 3600;
constexpr std::int64_t token_lifetime_s = 3600;

// Never throws: what is no JSON is "discarded".
Json parse_json(std::string_view text) {
  return Json::parse(text.begin(), text.end(), nullptr, false);
}

const Json* member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const std::string* text_member(const Json& object, const char* name) {
  const Json* found = member(object, name);
  return found == nullptr ? nullptr : found->get_ptr<const std::string*>();
}

// ---- Sec-WebSocket-Extensions

// Splits at `separator`, but not inside of quoted strings. Empty if a quote is not closed.
std::vector<std::string_view> split_quoted(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  bool quoted = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (text[i] == separator && !quoted) {
      parts.push_back(trim(text.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  if (quoted) return {};
  parts.push_back(trim(text.substr(begin)));
  return parts;
}

// A token, or what a quoted string says.
std::string unquote(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::string(text);
  std::string value;
  text = text.substr(1, text.size() - 2);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) ++i;
    value += text[i];
  }
  return value;
}

// ---- Contents

std::optional<GripMessageType> message_type(std::string_view name) {
  if (name == "text") return GripMessageType::text;
  if (name == "binary") return GripMessageType::binary;
  if (name == "ping") return GripMessageType::ping;
  if (name == "pong") return GripMessageType::pong;
  return {};
}

bool needs_content(GripMessageType type) {
  return type == GripMessageType::text || type == GripMessageType::binary;
}

// `content` or `content-bin`, of the type that the member `type_name` says or that follows from
// which of them it is. Nothing if there is none, or it is malformed.
Result<GripContent> parse_content(const Json& object, const char* type_name) {
  GripContent content;
  const std::string* text = text_member(object, "content");
  const std::string* binary = text_member(object, "content-bin");
  if (binary != nullptr) {
    auto decoded = base64_decode(*binary);
    if (!decoded) return fail("'content-bin' is not base64");
    content = {GripMessageType::binary, std::move(*decoded)};
  } else if (text != nullptr) {
    content.bytes = *text;
  }
  if (const Json* named = member(object, type_name)) {
    const auto type = named->is_string() ? message_type(named->get<std::string>()) : std::nullopt;
    if (!type) return fail(std::string("unknown '") + type_name + "'");
    content.type = *type;
  }
  if (text == nullptr && binary == nullptr && needs_content(content.type)) {
    return fail("'content' is missing or no text");
  }
  if (content.type == GripMessageType::text && !is_valid_utf8(as_bytes(content.bytes))) {
    return fail("the content of a text message is not UTF-8");
  }
  return content;
}

// ---- Control messages

std::optional<GripControl::Type> control_type(std::string_view name) {
  using Type = GripControl::Type;
  if (name == "subscribe") return Type::subscribe;
  if (name == "unsubscribe") return Type::unsubscribe;
  if (name == "detach") return Type::detach;
  if (name == "session") return Type::session;
  if (name == "set-meta") return Type::set_meta;
  if (name == "keep-alive") return Type::keep_alive;
  if (name == "send-delayed") return Type::send_delayed;
  if (name == "flush-delayed") return Type::flush_delayed;
  return {};
}

bool read_name(const Json& object, const char* key, GripControl& control) {
  const std::string* name = text_member(object, key);
  if (name == nullptr || name->empty()) return false;
  control.name = *name;
  return true;
}

bool read_strings(const Json& object, const char* key, std::vector<std::string>& strings) {
  const Json* list = member(object, key);
  if (list == nullptr) return true;
  if (!list->is_array()) return false;
  for (const Json& entry : *list) {
    if (!entry.is_string()) return false;
    strings.push_back(entry.get<std::string>());
  }
  return true;
}

bool read_timeout(const Json& object, std::uint64_t default_ms, GripControl& control) {
  control.timeout_ms = default_ms;
  const Json* timeout = member(object, "timeout");
  if (timeout == nullptr) return true;
  if (!timeout->is_number_unsigned()) return false;
  const auto seconds = timeout->get<std::uint64_t>();
  if (seconds == 0 || seconds > timeout_seconds_max) return false;
  control.timeout_ms = seconds * 1000;
  return true;
}

bool read_set_meta(const Json& object, GripControl& control) {
  if (!read_name(object, "name", control)) return false;
  if (member(object, "value") == nullptr) return true;
  const std::string* value = text_member(object, "value");
  if (value != nullptr) control.value = *value;
  return value != nullptr;
}

bool read_keep_alive(const Json& object, GripControl& control) {
  if (member(object, "content") == nullptr && member(object, "content-bin") == nullptr) return true;
  auto content = parse_content(object, "message-type");
  if (!content || !read_timeout(object, keep_alive_default_ms, control)) return false;
  control.content = std::move(*content);
  const Json* mode = member(object, "mode");
  control.interval = mode != nullptr && *mode == "interval";
  return mode == nullptr || control.interval || *mode == "idle";
}

bool read_send_delayed(const Json& object, GripControl& control) {
  auto content = parse_content(object, "message-type");
  if (!content || !read_timeout(object, delay_default_ms, control)) return false;
  control.content = std::move(*content);
  return true;
}

bool read_members(const Json& object, GripControl& control) {
  using Type = GripControl::Type;
  switch (control.type) {
    case Type::subscribe:
      return read_name(object, "channel", control) &&
             read_strings(object, "filters", control.filters);
    case Type::unsubscribe:
      return read_name(object, "channel", control);
    case Type::set_meta:
      return read_set_meta(object, control);
    case Type::keep_alive:
      return read_keep_alive(object, control);
    case Type::send_delayed:
      return read_send_delayed(object, control);
    case Type::detach:
    case Type::session:
    case Type::flush_delayed:
      return true;
  }
  return false;
}

// ---- Items

// They are kept for a minute.
constexpr std::size_t id_bytes_max = 1024;

Result<> read_ids(const Json& object, Published& item) {
  for (const char* name : {"id", "prev-id"}) {
    const Json* id = member(object, name);
    if (id == nullptr) continue;
    if (!id->is_string()) return fail(std::string("'") + name + "' is no text");
    if (id->get_ref<const std::string&>().size() > id_bytes_max) {
      return fail(std::string("'") + name + "' has more than " + std::to_string(id_bytes_max) +
                  " bytes");
    }
  }
  if (const std::string* id = text_member(object, "id")) item.id = *id;
  if (const std::string* id = text_member(object, "prev-id")) item.previous_id = *id;
  const Json* unsequenced = member(object, "no-seq");
  item.sequenced = unsequenced == nullptr || *unsequenced != true;
  return {};
}

Result<> read_meta(const Json& object, Published& item) {
  const Json* meta = member(object, "meta");
  if (meta == nullptr) return {};
  if (!meta->is_object()) return fail("'meta' is no object");
  for (const auto& [name, value] : meta->items()) {
    if (!value.is_string()) return fail("the value of '" + name + "' in 'meta' is no text");
    item.meta[name] = value.get<std::string>();
  }
  return {};
}

Result<> read_close(const Json& format, Published& item) {
  item.action = Published::Action::close;
  if (const Json* code = member(format, "code")) {
    if (!code->is_number_integer()) return fail("'code' is no whole number");
    const auto number = code->get<std::int64_t>();
    if (number < 0 || number > 0xFFFF ||
        !ws::may_be_on_the_wire(static_cast<std::uint16_t>(number))) {
      return fail("'code' may not be sent");
    }
    item.code = static_cast<std::uint16_t>(number);
  }
  if (const Json* reason = member(format, "reason")) {
    const std::string* text = reason->get_ptr<const std::string*>();
    if (text == nullptr || text->size() > ws::close_reason_bytes_max) {
      return fail("'reason' is no text of at most 123 bytes");
    }
    item.reason = *text;
  }
  return {};
}

Result<> read_send(const Json& format, Published& item) {
  item.action = Published::Action::send;
  auto content = parse_content(format, "type");
  if (!content) return tl::unexpected(content.error());
  item.content = std::move(*content);
  if (!read_strings(format, "content-filters", item.content_filters)) {
    return fail("'content-filters' is no list of texts");
  }
  return {};
}

Result<> read_format(const Json& format, Published& item) {
  if (!format.is_object()) return fail("'ws-message' is no object");
  const Json* action = member(format, "action");
  if (action == nullptr || *action == "send") return read_send(format, item);
  if (*action == "close") return read_close(format, item);
  if (*action == "refresh") {
    item.action = Published::Action::refresh;
    return {};
  }
  if (*action == "hint") return {};  // says that there is news: for HTTP clients
  return fail("unknown 'action'");
}

Result<Published> parse_item(const Json& object) {
  if (!object.is_object()) return fail("an item is no object");
  Published item;
  const std::string* channel = text_member(object, "channel");
  if (channel == nullptr || channel->empty()) return fail("'channel' is missing");
  item.channel = *channel;
  if (auto read = read_ids(object, item); !read) return tl::unexpected(read.error());
  if (auto read = read_meta(object, item); !read) return tl::unexpected(read.error());
  const Json* formats = member(object, "formats");
  if (formats != nullptr && !formats->is_object()) return fail("'formats' is no object");
  if (const Json* format = member(formats == nullptr ? object : *formats, "ws-message")) {
    if (auto read = read_format(*format, item); !read) return tl::unexpected(read.error());
  }
  return item;
}

// ---- Filters

bool contains(const std::vector<std::string>& list, std::string_view wanted) {
  return std::ranges::find(list, wanted) != list.end();
}

// Empty if there is none.
std::string_view value_of(const GripMeta& meta, std::string_view name) {
  const auto found = meta.find(name);
  return found == meta.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace

std::optional<GripExtension> parse_grip_extension(std::string_view field) {
  for (const std::string_view offer : split_quoted(field, ',')) {
    const auto parts = split_quoted(offer, ';');
    if (parts.empty() || !equals_ignoring_case(parts.front(), "grip")) continue;
    GripExtension extension;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const std::size_t equals = parts[i].find('=');
      if (equals == std::string_view::npos) continue;
      if (!equals_ignoring_case(trim(parts[i].substr(0, equals)), "message-prefix")) continue;
      extension.message_prefix = unquote(trim(parts[i].substr(equals + 1)));
    }
    return extension;
  }
  return {};
}

std::optional<GripControl> parse_control(std::string_view json) {
  const Json object = parse_json(json);
  if (!object.is_object()) return {};
  const std::string* name = text_member(object, "type");
  const auto type = name == nullptr ? std::nullopt : control_type(*name);
  if (!type) return {};
  GripControl control{.type = *type, .name = {}};
  if (!read_members(object, control)) return {};
  return control;
}

Result<std::vector<Published>> parse_publish(std::string_view json) {
  const Json body = parse_json(json);
  if (body.is_discarded()) return fail("Body is not valid JSON.");
  const Json* items = body.is_object() ? member(body, "items") : nullptr;
  if (items == nullptr || !items->is_array()) return fail("Invalid format: no list of 'items'.");
  std::vector<Published> published;
  for (const Json& object : *items) {
    auto item = parse_item(object);
    if (!item) return fail("Invalid format: " + item.error().message + ".");
    published.push_back(std::move(*item));
  }
  return published;
}

bool passes_filters(const Published& item, const GripReceiver& receiver) {
  const std::string_view user = value_of(receiver.meta, "user");
  if (contains(receiver.filters, "skip-self") && !user.empty() &&
      user == value_of(item.meta, "sender")) {
    return false;
  }
  if (contains(receiver.filters, "skip-users") && !user.empty()) {
    const auto users = split_list(value_of(item.meta, "skip_users"));
    if (std::ranges::find(users, user) != users.end()) return false;
  }
  if (contains(receiver.filters, "require-sub")) {
    const std::string_view channel = value_of(item.meta, "require_sub");
    if (!channel.empty() && !receiver.channels.contains(channel)) return false;
  }
  return true;
}

std::optional<std::string_view> filtered_content(const Published& item,
                                                 const GripReceiver& receiver,
                                                 std::size_t bytes_max, std::string& buffer) {
  if (!contains(receiver.filters, "var-subst") && !contains(item.content_filters, "var-subst")) {
    return item.content.bytes;
  }
  buffer.clear();
  std::string_view rest = item.content.bytes;
  while (!rest.empty() && buffer.size() <= bytes_max) {
    const std::size_t begin = rest.find("%(");
    const std::size_t end = begin == std::string_view::npos ? begin : rest.find(")s", begin);
    if (end == std::string_view::npos) break;
    const auto value = receiver.meta.find(rest.substr(begin + 2, end - begin - 2));
    buffer += rest.substr(0, value == receiver.meta.end() ? end + 2 : begin);
    if (value != receiver.meta.end()) buffer += value->second;
    rest.remove_prefix(end + 2);
  }
  buffer += rest;
  if (buffer.size() > bytes_max) return {};
  return buffer;
}

std::string decode_grip_key(std::string_view text) {
  constexpr std::string_view prefix = "base64:";
  if (!text.starts_with(prefix)) return std::string(text);
  return base64_decode(text.substr(prefix.size())).value_or(std::string(text));
}

std::string sign_grip_token(std::string_view key, std::string_view issuer, std::int64_t now_s) {
  const Json claims = {{"iss", issuer}, {"exp", now_s + token_lifetime_s}};
  std::string token =
      base64url(as_bytes(R"({"typ":"JWT","alg":"HS256"})")) + "." +
      base64url(as_bytes(claims.dump(-1, ' ', false, Json::error_handler_t::replace)));
  const auto code = hmac_sha256(as_bytes(key), as_bytes(token));
  return token + "." + base64url(code);
}

bool is_valid_token(std::string_view token, std::string_view key, std::int64_t now_s) {
  if (key.empty()) return false;  // anybody could have signed it
  const std::size_t first = token.find('.');
  const std::size_t last = token.rfind('.');
  if (first == std::string_view::npos || first == last) return false;
  const auto header = base64url_decode(token.substr(0, first));
  const auto claims = base64url_decode(token.substr(first + 1, last - first - 1));
  const auto signature = base64url_decode(token.substr(last + 1));
  if (!header || !claims || !signature) return false;
  const auto code = hmac_sha256(as_bytes(key), as_bytes(token.substr(0, last)));
  if (!equal_in_constant_time(code, as_bytes(*signature))) return false;

  const Json head = parse_json(*header);
  const Json body = parse_json(*claims);
  if (!head.is_object() || !body.is_object()) return false;
  const Json* algorithm = member(head, "alg");
  if (algorithm == nullptr || *algorithm != "HS256") return false;
  const Json* expiry = member(body, "exp");
  const Json* begin = member(body, "nbf");
  const auto now = static_cast<double>(now_s);
  if (expiry != nullptr && !(expiry->is_number() && expiry->get<double>() > now)) return false;
  return begin == nullptr || (begin->is_number() && begin->get<double>() <= now);
}

}  // namespace sluice::bridges
