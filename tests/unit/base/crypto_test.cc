#include "base/crypto.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace sluice;

namespace {

std::string hex(Bytes bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", byte);
    text += digits;
  }
  return text;
}

}  // namespace

TEST_CASE("SHA-1 of the test vectors (RFC 3174 7.3)") {
  CHECK(hex(sha1(as_bytes(""))) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hex(sha1(as_bytes("abc"))) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(hex(sha1(as_bytes(std::string(1'000'000, 'a')))) ==
        "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

TEST_CASE("base64 of the test vectors (RFC 4648 10)") {
  const char* const vectors[][2] = {{"", ""},
                                    {"f", "Zg=="},
                                    {"fo", "Zm8="},
                                    {"foo", "Zm9v"},
                                    {"foob", "Zm9vYg=="},
                                    {"fooba", "Zm9vYmE="},
                                    {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) {
    CHECK(base64(as_bytes(plain)) == encoded);
  }
  CHECK(base64(as_bytes("\xfb\xff\xbf")) == "+/+/");
}

TEST_CASE("random bytes fill the whole span and differ each time") {
  std::vector<std::uint8_t> first(1000, 0), second(1000, 0);
  random_bytes(first);
  random_bytes(second);
  CHECK(first != second);
  // 100 zeros at the end by chance: once in 2^800.
  CHECK(std::any_of(first.end() - 100, first.end(), [](std::uint8_t byte) { return byte != 0; }));
  random_bytes({});
}

TEST_CASE("a few random bytes differ each time too, over refills of the block") {
  std::set<std::vector<std::uint8_t>> seen;
  std::size_t count = 0;
  for (std::size_t size = 8; size <= 66; ++size) {
    for (int i = 0; i < 20; ++i, ++count) {
      std::vector<std::uint8_t> bytes(size, 0);
      random_bytes(bytes);
      // Zeros at both ends by chance: once in 2^32 for each.
      CHECK((bytes[0] | bytes[1] | bytes[2] | bytes[3]) != 0);
      CHECK((bytes[size - 4] | bytes[size - 3] | bytes[size - 2] | bytes[size - 1]) != 0);
      seen.insert({bytes.end() - 8, bytes.end()});
    }
  }
  CHECK(seen.size() == count);
}

TEST_CASE("masking keys do not repeat, over refills of the block and on several threads") {
  std::set<std::uint32_t> keys, others;
  for (int i = 0; i < 2000; ++i) keys.insert(random_mask());
  std::thread([&] {
    for (int i = 0; i < 2000; ++i) others.insert(random_mask());
  }).join();
  CHECK(keys.size() >= 1990);
  CHECK(others.size() >= 1990);
  others.merge(keys);
  CHECK(others.size() >= 3980);
}

TEST_CASE("HMAC with SHA-256 as in RFC 4231") {
  const auto hex = [](const std::array<std::uint8_t, 32>& code) {
    std::string text;
    for (const std::uint8_t byte : code) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  };
  CHECK(hex(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(hex(hmac_sha256(as_bytes(std::string(131, '\xaa')),
                        as_bytes("Test Using Larger Than Block-Size Key - Hash Key First"))) ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(hex(hmac_sha256({}, {})) ==
        "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST_CASE("base64 and base64url read back, and nothing else") {
  for (const std::string text : {"", "f", "fo", "foo", "foob", "fooba", "foobar", "\xff\xfe\xfd"}) {
    CHECK(base64_decode(base64(as_bytes(text))) == text);
    CHECK(base64url_decode(base64url(as_bytes(text))) == text);
  }
  CHECK(base64url(as_bytes("\xfb\xff")) == "-_8");
  for (const char* text : {"Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "=",
                           "====", "Z===", "Zg==Zg==", "Zm9v!", "-_8=", "Zm 9v", "Zg==\n"}) {
    CAPTURE(text);
    CHECK_FALSE(base64_decode(text));
  }
  for (const char* text : {"Z", "Zg==", "+/8", "Zh", "Zm9"}) {
    CAPTURE(text);
    CHECK(base64url_decode(text).has_value() == false);
  }
}

TEST_CASE("comparing without telling where the difference is") {
  CHECK(equal_in_constant_time(as_bytes("abc"), as_bytes("abc")));
  CHECK(equal_in_constant_time({}, {}));
  CHECK_FALSE(equal_in_constant_time(as_bytes("abc"), as_bytes("abd")));
  CHECK_FALSE(equal_in_constant_time(as_bytes("abc"), as_bytes("ab")));
}
