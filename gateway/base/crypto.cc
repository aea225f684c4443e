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

constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t foreign = 0xFF;

// The value of each character of the alphabet; `foreign` for all others.
constexpr std::array<std::uint8_t, 256> make_values() {
  std::array<std::uint8_t, 256> values{};
  values.fill(foreign);
  for (std::size_t i = 0; i < alphabet.size(); ++i) {
    values[static_cast<std::uint8_t>(alphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}
constexpr std::array<std::uint8_t, 256> values = make_values();

// A gateway that cannot make random numbers must not go on with guessable ones.
[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "sluice: OpenSSL: %s failed\n", what);
  std::abort();
}

// The 24 bits that up to four characters stand for; nothing if one of them is foreign.
std::optional<std::uint32_t> decode_group(std::string_view characters) {
  std::uint32_t bits = 0;
  for (const char character : characters) {
    const std::uint8_t value = values[static_cast<std::uint8_t>(character)];
    if (value == foreign) return std::nullopt;
    bits = bits << 6 | value;
  }
  return bits << (6 * (4 - characters.size()));
}

// How many characters at the end of a text are padding: 0, 1 or 2.
std::size_t padding_size(std::string_view text) {
  if (text.ends_with("==")) return 2;
  return text.ends_with("=") ? 1 : 0;
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
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (; !bytes.empty(); bytes = bytes.subspan(std::min<std::size_t>(bytes.size(), 3))) {
    const std::size_t count = std::min<std::size_t>(bytes.size(), 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i) bits = bits << 8 | (i < count ? bytes[i] : 0U);
    for (std::size_t i = 0; i < 4; ++i) {
      text += i <= count ? alphabet[bits >> (18 - 6 * i) & 0x3F] : '=';
    }
  }
  return text;
}

std::optional<std::vector<std::uint8_t>> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  const std::size_t size = text.size() / 4 * 3 - padding_size(text);
  text.remove_suffix(padding_size(text));
  std::vector<std::uint8_t> bytes;
  bytes.reserve(size + 2);
  for (; !text.empty(); text.remove_prefix(std::min<std::size_t>(text.size(), 4))) {
    const auto bits = decode_group(text.substr(0, 4));
    if (!bits) return std::nullopt;
    for (int shift = 16; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<std::uint8_t>(*bits >> shift));
    }
  }
  // The bits that padding leaves over stand for no byte: two texts for one value are refused.
  if (std::any_of(bytes.begin() + static_cast<std::ptrdiff_t>(size), bytes.end(),
                  [](std::uint8_t byte) { return byte != 0; })) {
    return std::nullopt;
  }
  bytes.resize(size);
  return bytes;
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
