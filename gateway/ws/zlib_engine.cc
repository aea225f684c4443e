#include <zlib.h>

#include <algorithm>
#include <cassert>

#include "ws/deflate_engine.h"

namespace sluice::ws {
namespace {

// zlib's raw deflate knows no window of 8 bits. Of one with 9 it uses 250 bytes
// (2^9 - MIN_LOOKAHEAD), so what comes out fits in a window of 8 bits, which has 256.
int deflate_window_bits(std::uint8_t bits) {
  return std::max<int>(bits, 9);
}

// The hash table need not be larger than the window: four times 2^bits bytes for the window and its
// chains, 2^(level + 9) for the rest.
int memory_level(std::uint8_t window_bits) {
  return std::clamp(deflate_window_bits(window_bits) - 6, 1, 8);
}

class ZlibEngine final : public DeflateEngine {
 public:
  ZlibEngine(std::uint8_t window_bits, std::uint8_t level) {
    // Negative: without zlib's header and checksum (RFC 7692 7.2.1 has raw DEFLATE).
    [[maybe_unused]] const int status =
        deflateInit2(&stream_, level, Z_DEFLATED, -deflate_window_bits(window_bits),
                     memory_level(window_bits), Z_DEFAULT_STRATEGY);
    assert(status == Z_OK);
  }
  ~ZlibEngine() override { deflateEnd(&stream_); }

  void feed(Bytes piece) override {
    stream_.next_in = const_cast<Bytef*>(piece.data());
    stream_.avail_in = static_cast<uInt>(piece.size());
  }

  Result deflate(MutableBytes room, bool flush) override {
    stream_.next_out = room.data();
    stream_.avail_out = static_cast<uInt>(room.size());
    // Z_BUF_ERROR says that there was nothing to do, as when it is flushed twice.
    ::deflate(&stream_, flush ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    return {room.size() - stream_.avail_out, stream_.avail_out == 0};
  }

  void reset() override { deflateReset(&stream_); }

  void continue_after(Bytes window) override {
    [[maybe_unused]] const int status =
        deflateSetDictionary(&stream_, window.data(), static_cast<uInt>(window.size()));
    assert(status == Z_OK);
  }

 private:
  z_stream stream_{};
};

}  // namespace

std::unique_ptr<DeflateEngine> make_zlib_engine(std::uint8_t window_bits, std::uint8_t level) {
  return std::make_unique<ZlibEngine>(window_bits, level);
}

// zlib's zconf.h, "memory requirements", and a few kilobytes of its small structures.
std::size_t zlib_engine_bytes(std::uint8_t window_bits) {
  return (std::size_t{1} << (deflate_window_bits(window_bits) + 2)) +
         (std::size_t{1} << (memory_level(window_bits) + 9)) + 8 * 1024 + sizeof(ZlibEngine);
}

}  // namespace sluice::ws
