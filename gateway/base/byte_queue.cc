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

ChunkPool::Chunk* ByteQueue::add_chunk() {
  ChunkPool::Chunk* const chunk = pool_.take();
  link(chunk);
  return chunk;
}

// Puts a chunk at the end, with what it holds.
void ByteQueue::link(ChunkPool::Chunk* chunk) {
  if (head_ == nullptr) {
    head_ = chunk;
    head_->queued_bytes = 0;
  } else {
    head_->last->next = chunk;
  }
  head_->last = chunk;
  head_->queued_bytes += chunk->end - chunk->begin;
}

void ByteQueue::append(Bytes bytes) {
  while (!bytes.empty()) {
    const MutableBytes room = extend(bytes.size());
    std::memcpy(room.data(), bytes.data(), room.size());
    bytes = bytes.subspan(room.size());
  }
}

void ByteQueue::append_lent(Bytes bytes) {
  if (bytes.size() < borrowed_bytes_min || !pool_.lends(bytes)) return append(bytes);
  borrow(bytes);
}

void ByteQueue::borrow(Bytes bytes) {
  if (bytes.empty()) return;
  ChunkPool::Chunk* const chunk = pool_.take();
  chunk->data = bytes.data();
  chunk->end = static_cast<std::uint32_t>(bytes.size());
  link(chunk);
}

void ByteQueue::keep() {
  ChunkPool::Chunk* chunk = std::exchange(head_, nullptr);
  while (chunk != nullptr) {
    ChunkPool::Chunk* const next = std::exchange(chunk->next, nullptr);
    if (chunk->borrows()) {
      append({chunk->data + chunk->begin, chunk->end - chunk->begin});
      pool_.give_back(chunk);
    } else {
      link(chunk);
    }
    chunk = next;
  }
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
  assert(size <= this->size());
  while (head_ != nullptr) {
    const std::size_t available = head_->end - head_->begin;
    if (size < available) {
      head_->begin += static_cast<std::uint32_t>(size);
      head_->queued_bytes -= size;
      return;
    }
    size -= available;
    ChunkPool::Chunk* chunk = head_;
    head_ = chunk->next;
    if (head_ != nullptr) {
      head_->last = chunk->last;
      head_->queued_bytes = chunk->queued_bytes - available;
    }
    pool_.give_back(chunk);
  }
}

void ByteQueue::clear() {
  consume(size());
}

std::vector<std::uint8_t> ByteQueue::to_vector() const {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(size());
  for (ChunkPool::Chunk* chunk = head_; chunk != nullptr; chunk = chunk->next) {
    bytes.insert(bytes.end(), chunk->data + chunk->begin, chunk->data + chunk->end);
  }
  return bytes;
}

std::string ByteQueue::to_string() const {
  return std::string(as_text(to_vector()));
}

}  // namespace sluice
