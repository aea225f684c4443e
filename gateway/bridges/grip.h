// GRIP: what a backend that answers WebSocket-over-HTTP may ask of the gateway, how requests to it
// are signed, and what is published to channels (shared/websocket-over-http.md 2a). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/message_type.h"
#include "base/result.h"

namespace sluice::bridges {

// ---- The extension

// What the gateway can do of it.
inline constexpr std::string_view grip_features =
    "session, filter:skip-self, filter:skip-users, filter:require-sub, filter:var-subst";

struct GripExtension {
  std::string message_prefix = "m:";
};

// Finds `grip` in a Sec-WebSocket-Extensions field; nothing if it is not there or malformed.
std::optional<GripExtension> parse_grip_extension(std::string_view field);

// ---- Messages

// Pings and pongs of backends are known, and not sent: the gateway pings by itself.
enum class GripMessageType : std::uint8_t { text, binary, ping, pong };

struct GripContent {
  GripMessageType type = GripMessageType::text;
  std::string bytes;

  // Pings and pongs are the gateway's own business.
  bool is_message() const {
    return type == GripMessageType::text || type == GripMessageType::binary;
  }
  MessageType message_type() const {
    return type == GripMessageType::text ? MessageType::text : MessageType::binary;
  }
};

// What follows "c:" in a backend's text message.
struct GripControl {
  enum class Type : std::uint8_t {
    subscribe,
    unsubscribe,
    detach,
    session,
    set_meta,
    keep_alive,
    send_delayed,
    flush_delayed,
  };
  Type type;
  std::string name;                       // of the channel or of the meta value
  std::vector<std::string> filters = {};  // subscribe
  std::optional<std::string> value = {};  // set_meta; without: forget it
  std::optional<GripContent> content = {};
  std::uint64_t timeout_ms = 0;
  bool interval = false;  // keep_alive: also while other things are sent
};

// Nothing if it is malformed or of another type: it is ignored.
std::optional<GripControl> parse_control(std::string_view json);

// ---- What is published

using GripMeta = std::map<std::string, std::string, std::less<>>;

struct Published {
  enum class Action : std::uint8_t { none, send, close, refresh };  // none: not for WebSockets
  std::string channel;
  std::string id = {};
  std::optional<std::string> previous_id = {};
  bool sequenced = true;  // "no-seq": its ids say nothing about the order
  GripMeta meta = {};
  Action action = Action::none;
  GripContent content = {};
  std::vector<std::string> content_filters = {};
  std::optional<std::uint16_t> code = {};  // of a close; without: an empty Close frame
  std::string reason = {};                 // of a close
};

// The body of POST /publish/. Errors are fit for the publisher's eyes.
Result<std::vector<Published>> parse_publish(std::string_view json);

// ---- Filters of a subscription

struct GripReceiver {
  const std::vector<std::string>& filters;
  const GripMeta& meta;  // set by set-meta
  const std::set<std::string, std::less<>>& channels;
};

// Whether the item is for this receiver.
bool passes_filters(const Published& item, const GripReceiver& receiver);
// The item's content as this receiver gets it: %(name)s replaced by its meta values if the filter
// var-subst says so, then a view of `buffer`. Nothing if that makes more than `bytes_max` bytes.
std::optional<std::string_view> filtered_content(const Published& item,
                                                 const GripReceiver& receiver,
                                                 std::size_t bytes_max, std::string& buffer);

// ---- Keys and tokens

// "base64:..." or the text itself. What is no base64 stands for itself, as with other gateways.
std::string decode_grip_key(std::string_view text);

// A JWT (RFC 7519, HS256) that says who sends a request, valid for an hour.
std::string sign_grip_token(std::string_view key, std::string_view issuer, std::int64_t now_s);
// Whether the token is signed with this key (HS256 and nothing else) and, by its exp and nbf, valid
// now. Not if the key is empty.
bool is_valid_token(std::string_view token, std::string_view key, std::int64_t now_s);

}  // namespace sluice::bridges
