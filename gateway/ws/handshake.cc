#include "ws/handshake.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/crypto.h"

namespace sluice::ws {
namespace {

bool is_alphanumeric(char character) {
  return (character >= '0' && character <= '9') || (character >= 'A' && character <= 'Z') ||
         (character >= 'a' && character <= 'z');
}

bool is_base64(char character) {
  return is_alphanumeric(character) || character == '+' || character == '/';
}

// RFC 9110 5.6.2: tchar. It is the same set that RFC 6455 4.1 describes for subprotocols.
bool is_token_character(char character) {
  return is_alphanumeric(character) ||
         std::string_view("!#$%&'*+-.^_`|~").find(character) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_character);
}

// RFC 9110 5.6.3: optional white space is spaces and tabs.
std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Takes the next element off the front of a comma-separated list.
std::string_view take_element(std::string_view& list) {
  const std::size_t comma = list.find(',');
  const std::string_view element = trim(list.substr(0, comma));
  list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  return element;
}

// Adds one offer, or says what is wrong with it. With at most offered_protocols_max of them the
// comparison of each with each is linear in the size of the field.
Result<> add_offer(std::vector<std::string>& offered, std::string_view protocol) {
  if (!is_token(protocol)) return fail("a subprotocol is not a token");
  if (offered.size() == offered_protocols_max) return fail("too many subprotocols");
  // RFC 6455 4.1, item 10: the elements "MUST all be unique strings".
  if (std::find(offered.begin(), offered.end(), protocol) != offered.end()) {
    return fail("a subprotocol is offered twice");
  }
  offered.emplace_back(protocol);
  return {};
}

}  // namespace

std::string accept_key(std::string_view key) {
  // RFC 6455 1.3: the key, without any change, followed by this GUID.
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  return base64(sha1(as_bytes(text)));
}

bool is_valid_key(std::string_view key) {
  // RFC 6455 4.2.1, item 5: "a base64-encoded value that, when decoded, is 16 bytes in length". The
  // unused bits of the last character are not looked at: RFC 6455's own example in 4.1 has some.
  if (key.size() != 24 || !key.ends_with("==")) return false;
  key.remove_suffix(2);
  return std::all_of(key.begin(), key.end(), is_base64);
}

std::string make_key() {
  std::array<std::uint8_t, 16> nonce{};
  random_bytes(nonce);
  return base64(nonce);
}

Result<std::vector<std::string>> parse_protocols(std::string_view value) {
  std::vector<std::string> offered;
  while (!value.empty()) {
    const std::string_view element = take_element(value);
    // RFC 9110 5.6.1.2: a recipient ignores empty elements of a list.
    if (element.empty()) continue;
    const Result<> added = add_offer(offered, element);
    if (!added) return tl::unexpected(added.error());
  }
  // RFC 6455 4.3: Sec-WebSocket-Protocol-Client = 1#token.
  if (offered.empty()) return fail("the list of subprotocols is empty");
  return offered;
}

std::optional<std::string_view> select_protocol(const std::vector<std::string>& offered,
                                                const std::vector<std::string>& supported) {
  for (const std::string& protocol : supported) {
    if (std::find(offered.begin(), offered.end(), protocol) != offered.end()) return protocol;
  }
  return std::nullopt;
}

}  // namespace sluice::ws
