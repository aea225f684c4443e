// The token file of a tcp route: any text.
//
// What must hold: it is taken whole, or the line at fault is named and is one of the text; a token
// can be told from its address, and an address names a port or a socket; the ends of lines may be
// those of any system; what was read can be written and read again.
#include <charconv>
#include <string>
#include <string_view>

#include "bridges/token_file.h"
#include "fuzz/input.h"

namespace {

using namespace sluice;
using bridges::parse_tokens;
using bridges::Tokens;
using fuzz::require;

bool is_plain(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7F) return false;
  }
  return true;
}

void check_token(std::string_view token) {
  require(!token.empty() && is_plain(token), "a token is not empty and has no control characters");
  constexpr std::string_view blanks = " \t";
  require(blanks.find(token.front()) == blanks.npos && blanks.find(token.back()) == blanks.npos,
          "no blanks around a token");
  require(token.front() != '#', "a comment is no token");
  require(token.find(": ") == token.npos && token.find(":\t") == token.npos,
          "no colon with a blank in a token");
}

void check_address(std::string_view address) {
  require(is_plain(address) && address.find_first_of(" \t") == address.npos, "no blanks");
  if (address.starts_with("unix:")) {
    const bool port = address.find_first_not_of("0123456789", 5) == address.npos;
    return require(address.substr(5).starts_with('/') || port, "a socket's path");
  }
  const std::size_t colon = address.rfind(':');
  require(colon != address.npos && colon > 0, "a host before the port");
  const std::string_view digits = address.substr(colon + 1);
  unsigned port = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), port).ptr;
  require(end == digits.data() + digits.size() && port >= 1 && port <= 65535, "a port");
}

std::string write(const Tokens& tokens) {
  std::string text;
  for (const auto& [token, address] : tokens) {
    const bool socket = address.starts_with("unix:/");
    text += token + ": " + (socket ? "unix_socket:" + address.substr(5) : address) + "\n";
  }
  return text;
}

std::string with_line_ends(std::string_view text, std::string_view end) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') {
      result += end;
    } else {
      result += c;
    }
  }
  return result;
}

void check_refusal(const std::string& message, std::string_view text) {
  constexpr std::string_view prefix = "line ";
  require(message.starts_with(prefix) && is_plain(message), "a refusal names a line");
  std::size_t line = 0;
  std::from_chars(message.data() + prefix.size(), message.data() + message.size(), line);
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  require(line >= 1 && line <= lines, "the line is there");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = as_text(Bytes(data, size));
  const auto tokens = parse_tokens(text);
  const auto dos = parse_tokens(with_line_ends(text, "\r\n"));
  require(tokens.has_value() == dos.has_value(), "with the ends of lines of any system");
  if (!tokens) {
    require(dos.error().message == tokens.error().message, "the same refusal");
    check_refusal(tokens.error().message, text);
    return 0;
  }
  require(*tokens == *dos, "the same tokens");
  for (const auto& [token, address] : *tokens) {
    check_token(token);
    check_address(address);
  }
  const auto again = parse_tokens(write(*tokens));
  require(again && *again == *tokens, "what was read can be written and read again");
  return 0;
}
