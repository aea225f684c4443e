#include "base/byte_queue.h"

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace sluice;

namespace {

constexpr std::size_t chunk_capacity = sizeof(ChunkPool::Chunk::bytes);

std::string numbered(std::size_t size, std::size_t from = 0) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((from + i) * 131 % 251);
  return text;
}

std::string peeked(const ByteQueue& queue, int vectors_max) {
  std::vector<iovec> vectors(static_cast<std::size_t>(vectors_max));
  const int count = queue.peek(vectors.data(), vectors_max);
  std::string text;
  for (int i = 0; i < count; ++i) {
    const iovec& vector = vectors[static_cast<std::size_t>(i)];
    CHECK(vector.iov_len > 0);
    text.append(static_cast<const char*>(vector.iov_base), vector.iov_len);
  }
  return text;
}

}  // namespace

TEST_CASE("an empty queue has nothing to show") {
  ChunkPool pool;
  ByteQueue queue(pool);
  CHECK(queue.empty());
  CHECK(queue.front().empty());
  iovec vector;
  CHECK(queue.peek(&vector, 1) == 0);
  queue.append({});
  CHECK(queue.empty());
  CHECK(queue.peek(&vector, 1) == 0);
  queue.consume(0);
  queue.clear();
  CHECK(queue.to_string().empty());
}

TEST_CASE("bytes come out as they went in, across the borders of chunks") {
  for (const std::size_t size : {std::size_t{1}, chunk_capacity - 1, chunk_capacity,
                                 chunk_capacity + 1, 5 * chunk_capacity}) {
    CAPTURE(size);
    ChunkPool pool;
    ByteQueue queue(pool);
    const std::string text = numbered(size);
    queue.append(as_bytes(text));
    CHECK(queue.size() == size);
    CHECK(queue.to_string() == text);
    CHECK(peeked(queue, 16) == text);
  }
}

TEST_CASE("what is reserved is in one piece and counts at once") {
  ChunkPool pool;
  ByteQueue queue(pool);
  queue.append(as_bytes(numbered(chunk_capacity - 10)));
  std::uint8_t* room = queue.reserve(14);  // does not fit behind the rest
  CHECK(queue.size() == chunk_capacity + 4);
  std::memset(room, 'h', 14);
  queue.append(as_bytes("tail"));
  CHECK(queue.to_string() == numbered(chunk_capacity - 10) + std::string(14, 'h') + "tail");
  CHECK(queue.front().size() == chunk_capacity - 10);
}

TEST_CASE("peek() shows no more pieces than it has room for, beginning with the first") {
  ChunkPool pool;
  ByteQueue queue(pool);
  queue.append(as_bytes(numbered(4 * chunk_capacity)));
  queue.consume(10);
  iovec vectors[2];
  CHECK(queue.peek(vectors, 2) == 2);
  CHECK(vectors[0].iov_len == chunk_capacity - 10);
  CHECK(vectors[1].iov_len == chunk_capacity);
  CHECK(as_text(queue.front()) == numbered(chunk_capacity - 10, 10));
}

TEST_CASE("any sequence of operations gives what a string would give") {
  std::mt19937 random(4711);
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  ChunkPool pool(4);
  const std::string lent = numbered(40'000);
  pool.lend(as_bytes(lent));
  for (int round = 0; round < 30; ++round) {
    ByteQueue queue(pool);
    std::string model;
    for (int step = 0; step < 300; ++step) {
      switch (below(7)) {
        case 0:
        case 1: {
          const std::string text = numbered(below(below(4) == 0 ? 40'000 : 300), below(1000));
          queue.append(as_bytes(text));
          model += text;
          break;
        }
        case 2: {
          const std::string text = numbered(1 + below(ByteQueue::max_reserve), below(1000));
          std::memcpy(queue.reserve(text.size()), text.data(), text.size());
          model += text;
          break;
        }
        case 3:
        case 4: {
          const std::size_t size = below(queue.size() + 1);
          queue.consume(size);
          model.erase(0, size);
          break;
        }
        case 5:
          if (below(20) == 0) {
            queue.clear();
            model.clear();
          }
          if (below(4) == 0) queue.keep();
          break;
        case 6: {
          const std::string_view text = std::string_view(lent).substr(below(lent.size()));
          queue.append_lent(as_bytes(text));
          model += text;
          break;
        }
      }
      REQUIRE(queue.size() == model.size());
      REQUIRE(queue.empty() == model.empty());
      REQUIRE(queue.to_string() == model);
      REQUIRE(queue.front().empty() == model.empty());
      REQUIRE(model.starts_with(as_text(queue.front())));
      REQUIRE(model.starts_with(peeked(queue, 3)));
    }
  }
}

TEST_CASE("what is lent is borrowed if it is much, and copied by keep()") {
  ChunkPool pool;
  ByteQueue queue(pool);
  std::string lent = numbered(3 * chunk_capacity);
  pool.lend(as_bytes(lent));
  const auto append = [&](std::string_view text) { queue.append_lent(as_bytes(text)); };
  const auto borrows = [&] {
    iovec vectors[8];
    const iovec& last = vectors[queue.peek(vectors, 8) - 1];
    return last.iov_base == lent.data();
  };
  append(std::string_view(lent).substr(0, ByteQueue::borrowed_bytes_min - 1));
  CHECK_FALSE(borrows());
  append(numbered(ByteQueue::borrowed_bytes_min));  // another's
  CHECK_FALSE(borrows());
  append(lent);
  CHECK(borrows());
  queue.append(as_bytes("tail"));
  CHECK_FALSE(borrows());
  queue.consume(20);
  const std::string whole = queue.to_string();
  queue.keep();
  pool.lend({});
  lent.assign(lent.size(), '!');
  CHECK(queue.to_string() == whole);
  CHECK(queue.size() == whole.size());
  append(lent);
  CHECK_FALSE(borrows());
}

TEST_CASE("what a caller answers for is borrowed by many queues at once, and copied by keep()") {
  ChunkPool pool;
  std::string shared = numbered(3 * chunk_capacity);
  const std::string whole = shared;
  ByteQueue quick(pool);
  ByteQueue slow(pool);
  slow.append(as_bytes("head"));
  for (ByteQueue* queue : {&quick, &slow}) {
    queue->borrow({});
    queue->borrow(as_bytes(shared));
    iovec vectors[4];
    const int count = queue->peek(vectors, 4);
    REQUIRE(count == (queue == &slow ? 2 : 1));
    CHECK(vectors[count - 1].iov_base == shared.data());
    CHECK(vectors[count - 1].iov_len == shared.size());
  }
  quick.consume(whole.size());
  slow.consume(1004);
  slow.keep();
  shared.assign(shared.size(), '!');
  CHECK(quick.empty());
  CHECK(slow.to_string() == whole.substr(1000));
}

TEST_CASE("an empty queue has given its chunks back, and the pool lends them again") {
  ChunkPool pool;
  std::set<const void*> seen;
  for (int i = 0; i < 100; ++i) {
    ByteQueue queue(pool);
    queue.append(as_bytes(numbered(3 * chunk_capacity)));
    iovec vectors[4];
    REQUIRE(queue.peek(vectors, 4) == 3);
    for (int k = 0; k < 3; ++k) seen.insert(vectors[k].iov_base);
    queue.consume(queue.size());
  }
  CHECK(seen.size() == 3);
}

TEST_CASE("a chunk that comes back from the pool is empty") {
  ChunkPool pool;
  ByteQueue queue(pool);
  for (int i = 0; i < 10; ++i) {
    queue.append(as_bytes(numbered(chunk_capacity + 1)));
    queue.consume(chunk_capacity / 2);
    queue.clear();
    queue.append(as_bytes("x"));
    CHECK(queue.to_string() == "x");
    queue.consume(1);
  }
}
