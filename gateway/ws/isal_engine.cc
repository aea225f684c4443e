#include <isa-l/igzip_lib.h>

#include <cassert>

#include "ws/deflate_engine.h"

namespace sluice::ws {
namespace {

// The smallest buffer that compresses as well as the larger ones do; it bounds how many symbols
// one block has.
constexpr std::size_t level_buffer_bytes = ISAL_DEF_LVL1_SMALL;

class IsalEngine final : public DeflateEngine {
 public:
  explicit IsalEngine(std::uint8_t window_bits) {
    isal_deflate_init(&stream_);
    stream_.level = 1;
    stream_.level_buf = level_buffer_;
    stream_.level_buf_size = level_buffer_bytes;
    stream_.hist_bits = window_bits;
    stream_.gzip_flag = IGZIP_DEFLATE;
    feed({});
  }

  void feed(Bytes piece) override {
    stream_.next_in = const_cast<std::uint8_t*>(piece.data());
    stream_.avail_in = static_cast<std::uint32_t>(piece.size());
    flushed_ = flushed_ && piece.empty();
  }

  Result deflate(MutableBytes room, bool flush) override {
    // Each further flush would add an empty block.
    if (flushed_) return {0, false};
    stream_.next_out = room.data();
    stream_.avail_out = static_cast<std::uint32_t>(room.size());
    stream_.flush = flush ? SYNC_FLUSH : NO_FLUSH;
    [[maybe_unused]] const int status = isal_deflate(&stream_);
    assert(status == COMP_OK);
    // igzip_lib.h: a flush is through if room is left, or in this state, which may also be reached
    // with the last byte of the room.
    const bool full = stream_.avail_out == 0;
    flushed_ = flush && (!full || stream_.internal_state.state == ZSTATE_NEW_HDR);
    return {room.size() - stream_.avail_out, full && !flushed_};
  }

  void reset() override {
    isal_deflate_reset(&stream_);
    feed({});
    flushed_ = true;
  }

  void continue_after(Bytes window) override {
    [[maybe_unused]] const int status =
        isal_deflate_set_dict(&stream_, const_cast<std::uint8_t*>(window.data()),
                              static_cast<std::uint32_t>(window.size()));
    assert(status == COMP_OK);
  }

 private:
  bool flushed_ = true;  // nothing was fed since
  isal_zstream stream_;
  alignas(64) std::uint8_t level_buffer_[level_buffer_bytes];
};

}  // namespace

std::unique_ptr<DeflateEngine> make_isal_engine(std::uint8_t window_bits) {
  return std::make_unique<IsalEngine>(window_bits);
}

std::size_t isal_engine_bytes() {
  return sizeof(IsalEngine);
}

}  // namespace sluice::ws
