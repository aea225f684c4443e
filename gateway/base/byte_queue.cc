#include "base/byte_queue.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>
#include <utility>

namespace sluice {

ChunkPool::~ChunkPool() {
  trim();
}

void ChunkPool::trim() {
  while (spare_ != nullptr) {
    Chunk* chunk = spare_;
    spare_ = chunk->next;
    delete chunk;
  }
  spare_count_ = 0;
}

ChunkPool::Chunk* ChunkPool::take() {
  if (spare_ == nullptr) return new Chunk;
  Chunk* chunk = spare_;
  spare_ = chunk->next;
  --spare_count_;
  chunk->next = nullptr;
  chunk->data = chunk->bytes;
  chunk->begin = chunk->end = 0;
  return chunk;
}

void ChunkPool::give_back(Chunk* chunk) {
  if (spare_count_ == spare_max_) {
    delete chunk;
    return;
  }
  chunk->next = spare_;
  spare_ = chunk;
  ++spare_count_;
}

bool ChunkPool::lends(Bytes bytes) const {
  const std::less_equal<> before;
  return before(lent_.data(), bytes.data()) &&
         before(bytes.data() + bytes.size(), lent_.data() + lent_.size());
}

ChunkPool::Chunk* ByteQueue::writable(std::size_t size) {
  const bool fits =
      tail_ != nullptr && !tail_->borrows() && sizeof(tail_->bytes) - tail_->end >= size;
  return fits ? tail_ : add_chunk();
}

ChunkPool::Chunk* ByteQueue::add_chunk() {
  ChunkPool::Chunk* chunk = pool_.take();
  (tail_ == nullptr ? head_ : tail_->next) = chunk;
  tail_ = chunk;
  return chunk;
}

void ByteQueue::append(Bytes bytes) {
  while (!bytes.empty()) {
    const MutableBytes room = extend(bytes.size());
    std::memcpy(room.data(), bytes.data(), room.size());
    bytes = bytes.subspan(room.size());
  }
}

MutableBytes ByteQueue::extend(std::size_t size_max) {
  ChunkPool::Chunk* chunk = writable(1);
  const std::size_t size = std::min(size_max, sizeof(chunk->bytes) - chunk->end);
  const MutableBytes room(chunk->bytes + chunk->end, size);
  chunk->end += static_cast<std::uint32_t>(size);
  size_ += size;
  return room;
}

void ByteQueue::append_lent(Bytes bytes) {
  if (bytes.size() < borrowed_bytes_min || !pool_.lends(bytes)) return append(bytes);
  ChunkPool::Chunk* chunk = add_chunk();
  chunk->data = bytes.data();
  chunk->end = static_cast<std::uint32_t>(bytes.size());
  size_ += bytes.size();
}

void ByteQueue::keep() {
  ChunkPool::Chunk* chunk = std::exchange(head_, nullptr);
  tail_ = nullptr;
  while (chunk != nullptr) {
    ChunkPool::Chunk* const next = std::exchange(chunk->next, nullptr);
    if (chunk->borrows()) {
      const Bytes borrowed(chunk->data + chunk->begin, chunk->end - chunk->begin);
      size_ -= borrowed.size();
      append(borrowed);
      pool_.give_back(chunk);
    } else {
      (tail_ == nullptr ? head_ : tail_->next) = chunk;
      tail_ = chunk;
    }
    chunk = next;
  }
}

std::uint8_t* ByteQueue::reserve(std::size_t size) {
  assert(size <= max_reserve);
  ChunkPool::Chunk* chunk = writable(size);
  std::uint8_t* room = chunk->bytes + chunk->end;
  chunk->end += static_cast<std::uint32_t>(size);
  size_ += size;
  return room;
}

int ByteQueue::peek(iovec* vectors, int vectors_max) const {
  int count = 0;
  for (ChunkPool::Chunk* chunk = head_; chunk != nullptr && count < vectors_max;
       chunk = chunk->next) {
    // writev(2) does not write to it, whatever its iovec says.
    auto* const bytes = const_cast<std::uint8_t*>(chunk->data + chunk->begin);
    vectors[count++] = {bytes, chunk->end - chunk->begin};
  }
  return count;
}

Bytes ByteQueue::front() const {
  if (head_ == nullptr) return {};
  return {head_->data + head_->begin, head_->end - head_->begin};
}

void ByteQueue::consume(std::size_t size) {
  assert(size <= size_);
  size_ -= size;
  while (head_ != nullptr) {
    const std::size_t available = head_->end - head_->begin;
    if (size < available) {
      head_->begin += static_cast<std::uint32_t>(size);
      return;
    }
    size -= available;
    ChunkPool::Chunk* chunk = head_;
    head_ = chunk->next;
    if (head_ == nullptr) tail_ = nullptr;
    pool_.give_back(chunk);
  }
}

void ByteQueue::clear() {
  consume(size_);
}

std::string ByteQueue::to_string() const {
  std::string text;
  text.reserve(size_);
  for (ChunkPool::Chunk* chunk = head_; chunk != nullptr; chunk = chunk->next) {
    text.append(reinterpret_cast<const char*>(chunk->data + chunk->begin),
                chunk->end - chunk->begin);
  }
  return text;
}

}  // namespace sluice
