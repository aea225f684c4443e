// What compresses behind a Deflater: zlib, or ISA-L where no socket keeps a stream of its own
// (docs/decisions/0017).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/bytes.h"

namespace sluice::ws {

class DeflateEngine {
 public:
  virtual ~DeflateEngine() = default;
  DeflateEngine(const DeflateEngine&) = delete;
  DeflateEngine& operator=(const DeflateEngine&) = delete;

  struct Result {
    std::size_t size;  // bytes written
    bool more;         // call again with the same `flush`
  };

  // The next bytes to compress. They must stay until deflate() has no more.
  virtual void feed(Bytes piece) = 0;
  // Fills `room`, at least 12 bytes, with raw DEFLATE. `flush`: everything that was fed since the
  // last flush is to be there, and 00 00 FF FF behind it; if nothing was fed, nothing is written.
  virtual Result deflate(MutableBytes room, bool flush) = 0;
  // What comes refers to nothing before it.
  virtual void reset() = 0;
  // After a reset: what comes may refer to `window`, at most 2^window_bits bytes, as if they had
  // been compressed before.
  virtual void continue_after(Bytes window) = 0;

 protected:
  DeflateEngine() = default;
};

// No reference goes back more than 2^window_bits bytes. `level`: zlib's, 1 to 9.
std::unique_ptr<DeflateEngine> make_zlib_engine(std::uint8_t window_bits, std::uint8_t level);
// As hard as ISA-L's level 1 tries, which is about zlib's 3.
std::unique_ptr<DeflateEngine> make_isal_engine(std::uint8_t window_bits);

// What an engine costs, its object included. zlib's is what its documents say.
std::size_t zlib_engine_bytes(std::uint8_t window_bits);
std::size_t isal_engine_bytes();

}  // namespace sluice::ws
