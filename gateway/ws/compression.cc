#include "ws/compression.h"

#include <zlib.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace sluice::ws {
namespace {

// Spare streams that are kept of each kind.
constexpr std::size_t spare_max = 2;

// RFC 7692 7.2.1: what is removed from the end of a message, and (7.2.2) appended again.
constexpr std::uint8_t tail[4] = {0x00, 0x00, 0xFF, 0xFF};

// Up to here ISA-L's level 1 makes about as little of a message as zlib does, in half of the time;
// its own higher levels do not reach zlib's (docs/decisions/0017).
constexpr std::uint8_t isal_level_max = 3;

// Of a window a stream has to make its hash table anew for each message. Up to here that costs less
// than what a stream of a socket's own takes: memory, and the caches' misses.
constexpr std::uint8_t window_bits_kept_max = 12;

// A stream of ISA-L takes 164 KiB whatever its window, too much for each socket to keep.
bool uses_isal(const DeflateDirection& direction, std::uint8_t level) {
  return !CompressionPool::keeps_deflater(direction) && level <= isal_level_max;
}

}  // namespace

// ---- SentWindow

SentWindow::SentWindow(CompressionPool& pool, std::uint8_t window_bits)
    : pool_(pool), window_bits_(window_bits) {}

SentWindow::~SentWindow() {
  pool_.release(CompressionPool::sent_window_bytes(window_bits_));
}

void SentWindow::append(Bytes compressed) {
  const std::size_t size_max = std::size_t{1} << window_bits_;
  if (bytes_ == nullptr) bytes_ = std::make_unique_for_overwrite<std::uint8_t[]>(size_max);
  const Bytes latest = compressed.last(std::min(compressed.size(), size_max));
  const std::size_t kept = std::min<std::size_t>(size_, size_max - latest.size());
  std::memmove(bytes_.get(), bytes_.get() + size_ - kept, kept);
  std::ranges::copy(latest, bytes_.get() + kept);
  size_ = static_cast<std::uint16_t>(kept + latest.size());
}

// ---- Deflater

Deflater::Deflater(CompressionPool& pool, const DeflateDirection& direction, std::uint8_t level)
    : pool_(pool), direction_(direction), level_(level) {}

Deflater::~Deflater() {
  pool_.release(CompressionPool::deflater_bytes(direction_, level_));
}

DeflateEngine& Deflater::engine() {
  if (engine_ == nullptr) {
    engine_ = uses_isal(direction_, level_) ? make_isal_engine(direction_.window_bits)
                                            : make_zlib_engine(direction_.window_bits, level_);
  }
  return *engine_;
}

void Deflater::feed(Bytes piece) {
  engine().feed(piece);
}

Deflater::Result Deflater::deflate(MutableBytes room, bool flush) {
  assert(room.size() >= 16);
  std::memcpy(room.data(), held_, held_size_);
  const Result written = engine().deflate(room.subspan(held_size_), flush);
  const std::size_t size = held_size_ + written.size;
  held_size_ = static_cast<std::uint8_t>(std::min(size, sizeof held_));
  std::memcpy(held_, room.data() + size - held_size_, held_size_);
  return {size - held_size_, written.more};
}

void Deflater::reset() {
  held_size_ = 0;
  if (engine_ != nullptr) engine_->reset();
}

void Deflater::continue_after(Bytes window) {
  if (!window.empty()) engine().continue_after(window);
}

// ---- Inflater

Inflater::Inflater(CompressionPool& pool, std::uint8_t window_bits)
    : pool_(pool), window_bits_(window_bits) {}

Inflater::~Inflater() {
  if (stream_ != nullptr) inflateEnd(stream_.get());
  pool_.release(CompressionPool::inflater_bytes(window_bits_));
}

void Inflater::feed(Bytes piece) {
  if (stream_ == nullptr) {
    stream_ = std::make_unique<z_stream>();
    [[maybe_unused]] const int status = inflateInit2(stream_.get(), -int{window_bits_});
    assert(status == Z_OK);
  }
  stream_->next_in = const_cast<Bytef*>(piece.data());
  stream_->avail_in = static_cast<uInt>(piece.size());
  pending_ = true;
}

void Inflater::feed_tail() {
  tail_fed_ = true;
  feed(tail);
}

Inflater::Result Inflater::inflate(MutableBytes room) {
  stream_->next_out = room.data();
  stream_->avail_out = static_cast<uInt>(room.size());
  const std::size_t fed = stream_->avail_in;
  for (;;) {
    const int status = ::inflate(stream_.get(), Z_SYNC_FLUSH);
    const std::size_t size = room.size() - stream_->avail_out;
    if (status == Z_STREAM_END && restart() && stream_->avail_in > 0 && stream_->avail_out > 0) {
      continue;
    }
    const std::size_t used = fed - stream_->avail_in;
    inflated_bytes_ += size;
    if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END) {
      return {Status::invalid, size, used};
    }
    pending_ = stream_->avail_in > 0 || stream_->avail_out == 0;
    return {pending_ ? Status::more : Status::hungry, size, used};
  }
}

// RFC 7692 7.2.3.4: a sender may end a block with BFINAL set to 1; more may follow. zlib's stream
// is over then; the next one goes on with the same window. Not inflateGetDictionary() and
// inflateSetDictionary(): a flood of empty final blocks, of two bytes each, would copy 64 KiB for
// each of them.
bool Inflater::restart() {
  return inflateResetKeep(stream_.get()) == Z_OK;
}

// zlib's manual, inflate(): data_type has 128 at the end of a block, and in its low bits how many
// bits were taken and not used.
bool Inflater::at_message_end() const {
  return (stream_->data_type & 128) != 0 && (stream_->data_type & 63) == 0;
}

std::size_t Inflater::take_unused() {
  return tail_fed_ ? 0 : std::exchange(stream_->avail_in, 0);
}

void Inflater::end_message() {
  tail_fed_ = pending_ = false;
  inflated_bytes_ = 0;
}

void Inflater::reset() {
  end_message();
  if (stream_ != nullptr) inflateReset(stream_.get());
}

// ---- CompressionPool

CompressionPool::~CompressionPool() {
  drop_spare();
  assert(used_bytes_ == 0);
}

// zlib's zconf.h, "memory requirements", and a few kilobytes of its small structures.
std::size_t CompressionPool::inflater_bytes(std::uint8_t window_bits) {
  return (std::size_t{1} << window_bits) + 8 * 1024 + sizeof(z_stream) + sizeof(Inflater);
}

std::size_t CompressionPool::deflater_bytes(const DeflateDirection& direction, std::uint8_t level) {
  const std::size_t engine_bytes =
      uses_isal(direction, level) ? isal_engine_bytes() : zlib_engine_bytes(direction.window_bits);
  return engine_bytes + sizeof(Deflater);
}

std::size_t CompressionPool::sent_window_bytes(std::uint8_t window_bits) {
  return (std::size_t{1} << window_bits) + sizeof(SentWindow);
}

bool CompressionPool::keeps_deflater(const DeflateDirection& direction) {
  return direction.context_takeover && direction.window_bits > window_bits_kept_max;
}

std::size_t CompressionPool::stream_bytes_max() {
  const std::size_t engine = std::max(zlib_engine_bytes(window_bits_max), isal_engine_bytes());
  return inflater_bytes(window_bits_max) + engine + sizeof(Deflater);
}

bool CompressionPool::has_room_to_keep(std::size_t bytes) {
  const std::size_t needed = bytes + stream_bytes_max();
  if (used_bytes_ + needed > bytes_max_) drop_spare();
  return used_bytes_ + needed <= bytes_max_;
}

bool CompressionPool::reserve(std::size_t bytes) {
  used_since_trim_ = true;
  if (used_bytes_ + bytes > bytes_max_) drop_spare();
  if (used_bytes_ + bytes > bytes_max_) return false;
  used_bytes_ += bytes;
  return true;
}

template <typename Stream, typename Fits>
std::unique_ptr<Stream> CompressionPool::take_spare(std::vector<std::unique_ptr<Stream>>& spare,
                                                    Fits fits) {
  const auto found = std::ranges::find_if(spare, [&](const auto& stream) { return fits(*stream); });
  if (found == spare.end()) return nullptr;
  used_since_trim_ = true;
  std::unique_ptr<Stream> taken = std::move(*found);
  spare.erase(found);
  return taken;
}

std::unique_ptr<Inflater> CompressionPool::take_inflater(std::uint8_t window_bits) {
  const auto fits = [&](const Inflater& spare) { return spare.window_bits_ == window_bits; };
  if (auto spare = take_spare(inflaters_, fits)) return spare;
  if (!reserve(inflater_bytes(window_bits))) return nullptr;
  return std::unique_ptr<Inflater>(new Inflater(*this, window_bits));
}

std::unique_ptr<Deflater> CompressionPool::take_deflater(const DeflateDirection& direction,
                                                         std::uint8_t level) {
  const auto fits = [&](const Deflater& spare) {
    return spare.direction_ == direction && spare.level_ == level;
  };
  if (auto spare = take_spare(deflaters_, fits)) return spare;
  if (!reserve(deflater_bytes(direction, level))) return nullptr;
  return std::unique_ptr<Deflater>(new Deflater(*this, direction, level));
}

std::unique_ptr<SentWindow> CompressionPool::take_sent_window(std::uint8_t window_bits) {
  if (!reserve(sent_window_bytes(window_bits))) return nullptr;
  return std::unique_ptr<SentWindow>(new SentWindow(*this, window_bits));
}

void CompressionPool::give_back(std::unique_ptr<Inflater> inflater) {
  keep(std::move(inflater), inflaters_);
}

void CompressionPool::give_back(std::unique_ptr<Deflater> deflater) {
  keep(std::move(deflater), deflaters_);
}

// The latest ones, since those are what is asked for.
template <typename Stream>
void CompressionPool::keep(std::unique_ptr<Stream> stream,
                           std::vector<std::unique_ptr<Stream>>& spare) {
  if (stream == nullptr) return;
  stream->reset();
  if (spare.size() == spare_max) spare.erase(spare.begin());
  spare.push_back(std::move(stream));
}

MutableBytes CompressionPool::buffer(std::vector<std::uint8_t>& bytes) {
  used_since_trim_ = true;
  bytes.resize(buffer_bytes);
  return bytes;
}

void CompressionPool::trim() {
  if (!std::exchange(used_since_trim_, false)) shrink();
}

void CompressionPool::shrink() {
  drop_spare();
  inflate_buffer_ = {};
  deflate_buffer_ = {};
}

void CompressionPool::drop_spare() {
  inflaters_.clear();
  deflaters_.clear();
}

}  // namespace sluice::ws
