#include "base/byte_queue.h"

#include <algorithm>
#include <cassert>
#include <cstring>

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

ChunkPool::Chunk* ByteQueue::writable(std::size_t size) {
  if (head_ != nullptr && sizeof(head_->bytes) - head_->last->end >= size) return head_->last;
  ChunkPool::Chunk* chunk = pool_.take();
  if (head_ == nullptr) {
    head_ = chunk;
    head_->queued_bytes = 0;
  } else {
    head_->last->next = chunk;
  }
  head_->last = chunk;
  return chunk;
}

void ByteQueue::append(Bytes bytes) {
  while (!bytes.empty()) {
    ChunkPool::Chunk* chunk = writable(1);
    const std::size_t count = std::min(bytes.size(), sizeof(chunk->bytes) - chunk->end);
    std::memcpy(chunk->bytes + chunk->end, bytes.data(), count);
    chunk->end += static_cast<std::uint32_t>(count);
    head_->queued_bytes += count;
    bytes = bytes.subspan(count);
  }
}

std::uint8_t* ByteQueue::reserve(std::size_t size) {
  assert(size != 0 && size <= max_reserve);
  ChunkPool::Chunk* chunk = writable(size);
  std::uint8_t* room = chunk->bytes + chunk->end;
  chunk->end += static_cast<std::uint32_t>(size);
  head_->queued_bytes += size;
  return room;
}

int ByteQueue::peek(iovec* vectors, int vectors_max) const {
  int count = 0;
  for (ChunkPool::Chunk* chunk = head_; chunk != nullptr && count < vectors_max;
       chunk = chunk->next) {
    vectors[count++] = {chunk->bytes + chunk->begin, chunk->end - chunk->begin};
  }
  return count;
}

Bytes ByteQueue::front() const {
  if (head_ == nullptr) return {};
  return {head_->bytes + head_->begin, head_->end - head_->begin};
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

std::string ByteQueue::to_string() const {
  std::string text;
  text.reserve(size());
  for (ChunkPool::Chunk* chunk = head_; chunk != nullptr; chunk = chunk->next) {
    text.append(reinterpret_cast<const char*>(chunk->bytes + chunk->begin),
                chunk->end - chunk->begin);
  }
  return text;
}

}  // namespace sluice
