#include "base/utf8.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

using namespace sluice;

namespace {

// The bytes of any 21-bit value in a form of `size` bytes, right or wrong.
std::string encode(std::uint32_t value, int size) {
  if (size == 1) return std::string(1, static_cast<char>(value));
  std::string bytes;
  const unsigned lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
  bytes += static_cast<char>(lead[size] | value >> (6 * (size - 1)));
  for (int i = size - 2; i >= 0; --i) bytes += static_cast<char>(0x80 | (value >> (6 * i) & 0x3F));
  return bytes;
}

int size_of(std::uint32_t value) {
  return value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
}

std::string between(std::string before, std::string_view character, std::string_view after) {
  return before.append(character).append(character).append(after);
}

// How many bytes of the text are taken before it fails, the failing one included; 0: it does not.
std::size_t fails_at(std::string_view text) {
  Utf8Validator validator;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!validator.feed(as_bytes(text.substr(i, 1)))) return i + 1;
  }
  return 0;
}

// The same by RFC 3629's definition: the smallest prefix that begins no valid text.
bool is_valid_slowly(std::string_view text) {
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text[0]);
    const std::size_t size = first < 0x80                    ? 1
                             : first >= 0xC0 && first < 0xE0 ? 2
                             : first >= 0xE0 && first < 0xF0 ? 3
                             : first >= 0xF0 && first < 0xF8 ? 4
                                                             : 0;
    if (size == 0 || text.size() < size) return false;
    std::uint32_t value = size == 1 ? first : first & (0x7FU >> size);
    for (std::size_t i = 1; i < size; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      if ((byte & 0xC0) != 0x80) return false;
      value = value << 6 | (byte & 0x3F);
    }
    if (static_cast<std::size_t>(size_of(value)) != size) return false;
    if ((value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF) return false;
    text.remove_prefix(size);
  }
  return true;
}

}  // namespace

TEST_CASE("every character is valid, alone and between others (RFC 3629 3)") {
  for (std::uint32_t value = 0; value <= 0x10FFFF; ++value) {
    if (value >= 0xD800 && value <= 0xDFFF) continue;
    const std::string character = encode(value, size_of(value));
    if (!is_valid_utf8(as_bytes(character))) FAIL_CHECK("U+" << value);
    if (value % 64 == 0 && !is_valid_utf8(as_bytes(between("a", character, "b")))) {
      FAIL_CHECK("between others: U+" << value);
    }
  }
}

TEST_CASE("surrogates fail at their second byte (RFC 3629 3)") {
  for (std::uint32_t value = 0xD800; value <= 0xDFFF; ++value) {
    CHECK_FALSE(is_valid_utf8(as_bytes(encode(value, 3))));
    CHECK(fails_at(encode(value, 3)) == 2);
  }
}

TEST_CASE("overlong forms fail as early as can be (RFC 3629 3)") {
  for (std::uint32_t value = 0; value < 0x10000; ++value) {
    for (int size = size_of(value) + 1; size <= 4; ++size) {
      // C0 and C1 begin nothing; E0 and F0 ask for more from their second byte.
      const std::size_t expected = size == 2 ? 1 : 2;
      if (fails_at(encode(value, size)) != expected) FAIL_CHECK(value << " in " << size);
    }
  }
}

TEST_CASE("values over U+10FFFF fail as early as can be (RFC 3629 3)") {
  for (std::uint32_t value = 0x110000; value <= 0x1FFFFF; value += 61) {
    const std::size_t expected = value < 0x140000 ? 2 : 1;
    if (fails_at(encode(value, 4)) != expected) FAIL_CHECK(value);
  }
  for (const char* bytes :
       {"\xf5", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe", "\xff"}) {
    CHECK(fails_at(bytes) == 1);
  }
}

TEST_CASE("a text that ends inside a character is incomplete, not wrong (RFC 6455 8.1)") {
  for (const std::uint32_t value : {0x80U, 0x7FFU, 0x800U, 0x4F60U, 0xFFFDU, 0x10000U, 0x10FFFFU}) {
    const std::string character = encode(value, size_of(value));
    for (std::size_t size = 1; size < character.size(); ++size) {
      Utf8Validator validator;
      CHECK(validator.feed(as_bytes(character.substr(0, size))));
      CHECK_FALSE(validator.complete());
      CHECK_FALSE(is_valid_utf8(as_bytes(character.substr(0, size))));
      CHECK(validator.feed(as_bytes(character.substr(size))));
      CHECK(validator.complete());
    }
  }
}

TEST_CASE("a wrong byte after the beginning of a character fails at once (RFC 3629 4)") {
  // Lead byte, then a byte that cannot follow it: where each of them is found.
  CHECK(fails_at("\x80") == 1);
  CHECK(fails_at("\xbf") == 1);
  CHECK(fails_at("\xc2\x41") == 2);
  CHECK(fails_at("\xc2\xc2") == 2);
  CHECK(fails_at("\xe4\x41") == 2);
  CHECK(fails_at("\xe4\xbd\x41") == 3);
  CHECK(fails_at("\xe4\xbd\xe4") == 3);
  CHECK(fails_at("\xf0\x9f\x41") == 3);
  CHECK(fails_at("\xf0\x9f\x98\x41") == 4);
  CHECK(fails_at("\xf0\x9f\x98\x80\x80") == 5);
  // Boundaries of the ranges of RFC 3629 section 4.
  CHECK(fails_at("\xe0\x9f") == 2);
  CHECK(fails_at("\xe0\xa0\x80") == 0);
  CHECK(fails_at("\xed\x9f\xbf") == 0);
  CHECK(fails_at("\xed\xa0") == 2);
  CHECK(fails_at("\xf0\x8f") == 2);
  CHECK(fails_at("\xf0\x90\x80\x80") == 0);
  CHECK(fails_at("\xf4\x8f\xbf\xbf") == 0);
  CHECK(fails_at("\xf4\x90") == 2);
}

TEST_CASE("once wrong, a text stays wrong (RFC 6455 8.1)") {
  Utf8Validator validator;
  CHECK_FALSE(validator.feed(as_bytes("\xff")));
  CHECK_FALSE(validator.feed(as_bytes("a")));
  CHECK_FALSE(validator.feed(as_bytes("\x80")));
  CHECK_FALSE(validator.complete());
  Utf8Validator second;
  CHECK_FALSE(second.feed(as_bytes("\xe4\xff")));
  CHECK_FALSE(second.feed(as_bytes("\xbd")));
  CHECK_FALSE(second.complete());
}

TEST_CASE("one wrong byte anywhere in a long text is found (RFC 6455 8.1)") {
  std::string ascii(70, 'x'), long_ascii(420, 'x'), chinese, mixed;
  for (int i = 0; i < 25; ++i) chinese += "\xe4\xbd\xa0";
  for (int i = 0; i < 12; ++i) mixed += "a\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80";
  for (const std::string& text : {ascii, long_ascii, chinese, mixed}) {
    REQUIRE(is_valid_utf8(as_bytes(text)));
    for (std::size_t i = 0; i < text.size(); ++i) {
      for (const char wrong : {'\xff', '\xc0', '\x80', 'x', '\xed', '\xf0'}) {
        std::string broken = text;
        broken[i] = wrong;
        CHECK(is_valid_utf8(as_bytes(broken)) == is_valid_slowly(broken));
      }
    }
  }
}

TEST_CASE("random bytes are judged as RFC 3629 defines, whole and cut anywhere") {
  std::mt19937 random(3629);
  const std::vector<std::string> parts = {"a",
                                          "some longer ASCII text",
                                          "\xc3\xa9",
                                          "\xe4\xbd\xa0\xe5\xa5\xbd",
                                          "\xed\x9f\xbf",
                                          "\xee\x80\x80",
                                          "\xe0\xa0\x80",
                                          "\xf0\x9f\x98\x80",
                                          "\xf4\x8f\xbf\xbf",
                                          "\xe1\x80\x80",
                                          "\xef\xbf\xbf",
                                          "\xed",
                                          "\xa0",
                                          "\xf4",
                                          "\x90",
                                          "\xe0",
                                          "\x80",
                                          "\xc1",
                                          "\xf0"};
  int valid = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    const std::size_t kinds = random() % 2 == 0 ? 11 : parts.size();
    for (std::size_t count = random() % 8; count > 0; --count) text += parts[random() % kinds];
    const bool expected = is_valid_slowly(text);
    valid += expected;
    CHECK(is_valid_utf8(as_bytes(text)) == expected);
    const std::size_t cut = text.empty() ? 0 : random() % text.size();
    Utf8Validator validator;
    const bool fed =
        validator.feed(as_bytes(text.substr(0, cut))) && validator.feed(as_bytes(text.substr(cut)));
    CHECK((fed && validator.complete()) == expected);
  }
  CHECK(valid > 5000);
  CHECK(valid < 15000);
}
