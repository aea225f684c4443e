#include "base/crypto.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace sluice {
namespace {

// A gateway that cannot make random numbers must not go on with guessable ones.
[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "sluice: OpenSSL: %s failed\n", what);
  std::abort();
}

}  // namespace

std::array<std::uint8_t, 20> sha1(Bytes bytes) {
  std::array<std::uint8_t, 20> digest{};
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha1(), nullptr) != 1) {
    stop("SHA-1");
  }
  return digest;
}

std::string base64(Bytes bytes) {
  // EVP_EncodeBlock ends its output with a NUL, which falls on the string's own.
  std::string text((bytes.size() + 2) / 3 * 4, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(),
                  static_cast<int>(bytes.size()));
  return text;
}

void random_bytes(MutableBytes bytes) {
  constexpr std::size_t count_max = std::numeric_limits<int>::max();
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), count_max);
    if (RAND_bytes(bytes.data(), static_cast<int>(count)) != 1) stop("the random generator");
    bytes = bytes.subspan(count);
  }
}

std::uint32_t random_mask() {
  thread_local std::array<std::uint8_t, 1024> block;
  thread_local std::size_t used = block.size();
  if (used == block.size()) {
    random_bytes(block);
    used = 0;
  }
  std::uint32_t mask;
  std::memcpy(&mask, block.data() + used, sizeof(mask));
  used += sizeof(mask);
  return mask;
}

}  // namespace sluice
