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
