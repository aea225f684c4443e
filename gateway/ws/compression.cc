#include "ws/compression.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <utility>

#include "ws/permessage_deflate.h"

namespace sluice::ws {
namespace {

// Spare streams that are kept of each kind.
constexpr std::size_t spare_max = 2;

// RFC 7692 7.2.1: what is removed from the end of a message, and (7.2.2) appended again.
constexpr std::uint8_t tail[4] = {0x00, 0x00, 0xFF, 0xFF};

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

constexpr std::size_t stream_bytes = sizeof(z_stream);

}  // namespace

// ---- Deflater

Deflater::Deflater(CompressionPool& pool, std::uint8_t window_bits, std::uint8_t level)
    : pool_(pool), window_bits_(window_bits), level_(level) {}

Deflater::~Deflater() {
  if (stream_ != nullptr) deflateEnd(stream_.get());
  pool_.release(CompressionPool::deflater_bytes(window_bits_));
}

void Deflater::open() {
  if (stream_ != nullptr) return;
  stream_ = std::make_unique<z_stream>();
  // Negative: without zlib's header and checksum (RFC 7692 7.2.1 has raw DEFLATE).
  [[maybe_unused]] const int status =
      deflateInit2(stream_.get(), level_, Z_DEFLATED, -deflate_window_bits(window_bits_),
                   memory_level(window_bits_), Z_DEFAULT_STRATEGY);
  assert(status == Z_OK);
}

void Deflater::feed(Bytes piece) {
  open();
  stream_->next_in = const_cast<Bytef*>(piece.data());
  stream_->avail_in = static_cast<uInt>(piece.size());
}

Deflater::Result Deflater::deflate(MutableBytes room, bool flush) {
  assert(room.size() >= 16);
  open();
  std::memcpy(room.data(), held_, held_size_);
  stream_->next_out = room.data() + held_size_;
  stream_->avail_out = static_cast<uInt>(room.size() - held_size_);
  // Z_BUF_ERROR says that there was nothing to do, as when it is flushed twice.
  ::deflate(stream_.get(), flush ? Z_SYNC_FLUSH : Z_NO_FLUSH);
  const std::size_t size = room.size() - stream_->avail_out;
  held_size_ = static_cast<std::uint8_t>(std::min(size, sizeof held_));
  std::memcpy(held_, room.data() + size - held_size_, held_size_);
  return {size - held_size_, stream_->avail_out == 0};
}

void Deflater::reset() {
  held_size_ = 0;
  if (stream_ != nullptr) deflateReset(stream_.get());
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
  for (;;) {
    const int status = ::inflate(stream_.get(), Z_SYNC_FLUSH);
    const std::size_t size = room.size() - stream_->avail_out;
    if (status == Z_STREAM_END && restart() && stream_->avail_in > 0 && stream_->avail_out > 0) {
      continue;
    }
    inflated_bytes_ += size;
    if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END) {
      return {Status::invalid, size};
    }
    pending_ = stream_->avail_in > 0 || stream_->avail_out == 0;
    return {pending_ ? Status::more : Status::hungry, size};
  }
}

// RFC 7692 7.2.3.4: a sender may end a block with BFINAL set to 1; more may follow. zlib's stream
// is over then; the next one goes on with the same window.
bool Inflater::restart() {
  std::array<std::uint8_t, 1U << window_bits_max> window;
  uInt size = 0;
  inflateGetDictionary(stream_.get(), window.data(), &size);
  inflateReset(stream_.get());
  return size == 0 || inflateSetDictionary(stream_.get(), window.data(), size) == Z_OK;
}

// zlib's manual, inflate(): data_type has 128 at the end of a block, and in its low bits how many
// bits were taken and not used.
bool Inflater::at_message_end() const {
  return (stream_->data_type & 128) != 0 && (stream_->data_type & 63) == 0;
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
  return (std::size_t{1} << window_bits) + 8 * 1024 + stream_bytes + sizeof(Inflater);
}

std::size_t CompressionPool::deflater_bytes(std::uint8_t window_bits) {
  return (std::size_t{1} << (deflate_window_bits(window_bits) + 2)) +
         (std::size_t{1} << (memory_level(window_bits) + 9)) + 8 * 1024 + stream_bytes +
         sizeof(Deflater);
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

std::unique_ptr<Deflater> CompressionPool::take_deflater(std::uint8_t window_bits,
                                                         std::uint8_t level) {
  const auto fits = [&](const Deflater& spare) {
    return spare.window_bits_ == window_bits && spare.level_ == level;
  };
  if (auto spare = take_spare(deflaters_, fits)) return spare;
  if (!reserve(deflater_bytes(window_bits))) return nullptr;
  return std::unique_ptr<Deflater>(new Deflater(*this, window_bits, level));
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
