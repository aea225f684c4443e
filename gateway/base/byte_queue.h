// ByteQueue: bytes on their way out, in chunks that a pool lends and takes back.
//
// What a connection sends during a turn is appended here and leaves with one write at the end of
// the turn. In the steady state a chunk is borrowed, filled, written and returned: no allocation.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace sluice {

// A pool of equal chunks. One pool a worker: not thread-safe. Outlives every queue that uses it.
class ChunkPool {
 public:
  // A batch of messages, 16 KiB of payload, fits in with its headers, and leaves from one place.
  static constexpr std::size_t chunk_bytes = (16 + 1) * 1024;

  struct Chunk {
    bool borrows() const { return data != bytes; }
    std::size_t room() const { return borrows() ? 0 : sizeof bytes - end; }

    Chunk* next = nullptr;
    const std::uint8_t* data = bytes;  // or what is borrowed
    std::uint32_t begin = 0;           // the first byte not yet consumed
    std::uint32_t end = 0;             // one past the last byte written
    // What the first chunk knows of its queue.
    Chunk* last = nullptr;
    std::size_t queued_bytes = 0;
    std::uint8_t bytes[chunk_bytes - 40];
  };

  // Keeps at most `spare_max` unused chunks; the rest go back to the heap.
  explicit ChunkPool(std::size_t spare_max = 64) : spare_max_(spare_max) {}
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  Chunk* take();
  void give_back(Chunk* chunk);
  // Frees the unused ones.
  void trim();

  // Bytes that queues may borrow (ByteQueue::append_lent) until other ones are lent, or none.
  // Before that each queue that has borrowed must be empty, or keep() its content. Returns those
  // that were lent so far.
  Bytes lend(Bytes bytes) { return std::exchange(lent_, bytes); }
  bool lends() const { return !lent_.empty(); }
  bool lends(Bytes bytes) const;

 private:
  Chunk* spare_ = nullptr;
  std::size_t spare_count_ = 0;
  std::size_t spare_max_;
  Bytes lent_;
};

// First in, first out. Holds no chunk while it is empty, and then has two pointers in all: idle
// connections are many.
class ByteQueue {
 public:
  explicit ByteQueue(ChunkPool& pool) : pool_(pool) {}
  ~ByteQueue() { clear(); }
  ByteQueue(const ByteQueue&) = delete;
  ByteQueue& operator=(const ByteQueue&) = delete;

  void append(Bytes bytes);

  // The same, but what the pool lends is not copied if it is many bytes: it is no longer there once
  // the pool lends it no more.
  static constexpr std::size_t borrowed_bytes_min = 8 * 1024;
  void append_lent(Bytes bytes);
  // The same for bytes that the caller answers for, however few: they stay until they are consumed
  // or kept.
  void borrow(Bytes bytes);
  // Copies what is borrowed.
  void keep();

  // Room for exactly `size` bytes in one piece, already counted as appended; the caller fills it.
  // `size` is 1 to max_reserve.
  static constexpr std::size_t max_reserve = 256;
  std::uint8_t* reserve(std::size_t size) {
    assert(size != 0 && size <= max_reserve);
    return fill(writable(size), size);
  }
  // The same for some bytes, at least one and at most `size_max`, which is not 0.
  MutableBytes extend(std::size_t size_max) {
    ChunkPool::Chunk* const chunk = writable(1);
    const std::size_t size = std::min(size_max, chunk->room());
    return {fill(chunk, size), size};
  }

  std::size_t size() const { return head_ == nullptr ? 0 : head_->queued_bytes; }
  bool empty() const { return head_ == nullptr; }

  // Describes the first bytes for writev(2). Returns how many entries were filled.
  int peek(iovec* vectors, int vectors_max) const;
  // The first contiguous piece; empty if the queue is.
  Bytes front() const;
  // Forgets the first `size` bytes.
  void consume(std::size_t size);
  void clear();

  // A copy of everything.
  std::vector<std::uint8_t> to_vector() const;
  // The same, for tests.
  std::string to_string() const;

 private:
  // The last chunk, or a new one if it has less room than that.
  ChunkPool::Chunk* writable(std::size_t size) {
    return head_ != nullptr && head_->last->room() >= size ? head_->last : add_chunk();
  }
  // Counts `size` bytes of a chunk's room as appended.
  std::uint8_t* fill(ChunkPool::Chunk* chunk, std::size_t size) {
    std::uint8_t* const room = chunk->bytes + chunk->end;
    chunk->end += static_cast<std::uint32_t>(size);
    head_->queued_bytes += size;
    return room;
  }
  ChunkPool::Chunk* add_chunk();
  void link(ChunkPool::Chunk* chunk);

  ChunkPool& pool_;
  ChunkPool::Chunk* head_ = nullptr;  // null: empty
};

}  // namespace sluice
