#include "bridges/tcp_text.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"

using namespace sluice;
using namespace sluice::bridges;

namespace {

// What is sent for these pieces, message by message; "invalid" at the end if it came to that.
std::vector<std::string> cut_all(const std::vector<std::string>& pieces) {
  TcpText text;
  std::vector<std::string> messages;
  for (const std::string& piece : pieces) {
    const auto cut = text.cut(as_bytes(piece));
    if (!cut) {
      messages.emplace_back("invalid");
      return messages;
    }
    if (cut->size() == 0) continue;
    messages.push_back(std::string(as_text(cut->begin)) + std::string(as_text(cut->rest)));
  }
  if (!text.complete()) messages.emplace_back("incomplete");
  return messages;
}

std::string joined(const std::vector<std::string>& messages) {
  std::string all;
  for (const auto& message : messages) all += message;
  return all;
}

std::vector<std::string> in_pieces(const std::string& text, std::size_t size) {
  std::vector<std::string> pieces;
  for (std::size_t i = 0; i < text.size(); i += size) pieces.push_back(text.substr(i, size));
  return pieces;
}

const std::string mixed = "aé你🌊z\n€𝄞ßё漢";

}  // namespace

TEST_CASE("tcp text: text that ends with a character goes on as it came") {
  CHECK(cut_all({"hello", "你好", ""}) == std::vector<std::string>{"hello", "你好"});
}

TEST_CASE("tcp text: an incomplete character waits for the rest of it") {
  CHECK(cut_all({"a\xE4", "\xBD\xA0z"}) == std::vector<std::string>{"a", "你z"});
  CHECK(cut_all({"\xE4", "\xBD", "\xA0"}) == std::vector<std::string>{"你"});
  CHECK(cut_all({"\xF0\x9F\x8C", "\x8A\xE4\xBD", "\xA0"}) == std::vector<std::string>{"🌊", "你"});
  CHECK(cut_all({"a\xC3", "\xA9\xC3", "\xA9"}) == std::vector<std::string>{"a", "é", "é"});
}

TEST_CASE("tcp text: wherever it is cut, every message is valid and nothing is lost") {
  for (std::size_t size = 1; size <= mixed.size(); ++size) {
    const auto messages = cut_all(in_pieces(mixed, size));
    CHECK(joined(messages) == mixed);
    for (const auto& message : messages) CHECK(is_valid_utf8(as_bytes(message)));
  }
  std::string text;
  for (int i = 0; i < 200; ++i) text += mixed;
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> pieces;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t size = 1 + random() % 9;
      pieces.push_back(text.substr(i, size));
      i += size;
    }
    const auto messages = cut_all(pieces);
    CHECK(joined(messages) == text);
    for (const auto& message : messages) REQUIRE(is_valid_utf8(as_bytes(message)));
  }
}

TEST_CASE("tcp text: what is no UTF-8 is an error, and so is an end inside of a character") {
  CHECK(cut_all({"a", "\xFF"}) == std::vector<std::string>{"a", "invalid"});
  CHECK(cut_all({"a\xE4", "b"}) == std::vector<std::string>{"a", "invalid"});
  CHECK(cut_all({"\xED", "\xA0\x80"}) == std::vector<std::string>{"invalid"});  // a surrogate
  CHECK(cut_all({"\xC0\x80"}) == std::vector<std::string>{"invalid"});          // overlong
  CHECK(cut_all({"a\xF0\x9F\x8C"}) == std::vector<std::string>{"a", "incomplete"});
}
