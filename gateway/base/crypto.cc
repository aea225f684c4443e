#include "base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

namespace sluice {
namespace {

// A gateway that cannot make random numbers must not go on with guessable ones.
[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "sluice: OpenSSL: %s failed\n", what);
  std::abort();
}

// Of each thread: a call of OpenSSL costs more than the few bytes that most ask for.
class RandomBlock {
 public:
  static constexpr std::size_t taken_max = 64;

  // The next `count` bytes, at most taken_max; good until the next call.
  const std::uint8_t* take(std::size_t count) {
    if (bytes_.size() - used_ < count) {
      random_bytes(bytes_);
      used_ = 0;
    }
    return bytes_.data() + std::exchange(used_, used_ + count);
  }

 private:
  std::array<std::uint8_t, 1024> bytes_;
  std::size_t used_ = bytes_.size();
};

RandomBlock& random_block() {
  thread_local RandomBlock block;
  return block;
}

// What a character of base64 stands for; 64 if it is none.
unsigned sextet(char c, char sixty_two, char sixty_three) {
  if (c >= 'A' && c <= 'Z') return static_cast<unsigned>(c - 'A');
  if (c >= 'a' && c <= 'z') return static_cast<unsigned>(c - 'a') + 26;
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0') + 52;
  if (c == sixty_two) return 62;
  if (c == sixty_three) return 63;
  return 64;
}

// `text` is without padding.
std::optional<std::string> decode_sextets(std::string_view text, char sixty_two, char sixty_three) {
  if (text.size() % 4 == 1) return {};
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  unsigned bits = 0;
  unsigned bit_count = 0;
  for (const char c : text) {
    const unsigned value = sextet(c, sixty_two, sixty_three);
    if (value == 64) return {};
    bits = (bits << 6 | value) & 0xFFFF;
    bit_count += 6;
    if (bit_count < 8) continue;
    bit_count -= 8;
    bytes.push_back(static_cast<char>(bits >> bit_count & 0xFF));
  }
  if ((bits & ((1U << bit_count) - 1)) != 0) return {};
  return bytes;
}

}  // namespace

std::array<std::uint8_t, 20> sha1(Bytes bytes) {
  // Else OpenSSL looks for it by its name each time, which takes longer than the digest.
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  std::array<std::uint8_t, 20> digest{};
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, algorithm, nullptr) != 1) {
    stop("SHA-1");
  }
  return digest;
}

std::array<std::uint8_t, 32> hmac_sha256(Bytes key, Bytes message) {
  std::array<std::uint8_t, 32> code{};
  // OpenSSL takes a null key for "the key of before".
  const std::uint8_t empty = 0;
  if (HMAC(EVP_sha256(), key.empty() ? &empty : key.data(), static_cast<int>(key.size()),
           message.data(), message.size(), code.data(), nullptr) == nullptr) {
    stop("HMAC");
  }
  return code;
}

bool equal_in_constant_time(Bytes a, Bytes b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string base64(Bytes bytes) {
  // EVP_EncodeBlock ends its output with a NUL, which falls on the string's own.
  std::string text((bytes.size() + 2) / 3 * 4, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(),
                  static_cast<int>(bytes.size()));
  return text;
}

std::string base64url(Bytes bytes) {
  std::string text = base64(bytes);
  while (!text.empty() && text.back() == '=') text.pop_back();
  for (char& c : text) {
    if (c == '+') c = '-';
    if (c == '/') c = '_';
  }
  return text;
}

std::optional<std::string> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return {};
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  return decode_sextets(text, '+', '/');
}

std::optional<std::string> base64url_decode(std::string_view text) {
  return decode_sextets(text, '-', '_');
}

void random_bytes(MutableBytes bytes) {
  if (bytes.size() <= RandomBlock::taken_max) {
    std::copy_n(random_block().take(bytes.size()), bytes.size(), bytes.begin());
    return;
  }
  constexpr std::size_t count_max = std::numeric_limits<int>::max();
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), count_max);
    if (RAND_bytes(bytes.data(), static_cast<int>(count)) != 1) stop("the random generator");
    bytes = bytes.subspan(count);
  }
}

std::uint32_t random_mask() {
  std::uint32_t mask;
  std::memcpy(&mask, random_block().take(sizeof mask), sizeof mask);
  return mask;
}

}  // namespace sluice
