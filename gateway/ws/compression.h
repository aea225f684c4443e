// The streams behind permessage-deflate (RFC 7692), and the pool that lends them.
//
// A socket without context takeover needs a stream only while it is in the midst of a message: it
// borrows one of the worker's. With context takeover it keeps its own to inflate, and to deflate it
// keeps what the next message may refer to: the window alone, or a stream if the window is large.
// What all of that takes in a worker is bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "ws/deflate_engine.h"
#include "ws/permessage_deflate.h"

struct z_stream_s;

namespace sluice::ws {

class CompressionPool;

// The last bytes that were compressed for a receiver, which it has kept as well (RFC 7692 7.1.1).
// With them any stream can go on where another one has ended.
class SentWindow {
 public:
  ~SentWindow();
  SentWindow(const SentWindow&) = delete;
  SentWindow& operator=(const SentWindow&) = delete;

  void append(Bytes compressed);
  Bytes bytes() const { return {bytes_.get(), size_}; }

 private:
  friend class CompressionPool;
  SentWindow(CompressionPool& pool, std::uint8_t window_bits);

  CompressionPool& pool_;
  const std::uint8_t window_bits_;
  std::uint16_t size_ = 0;
  std::unique_ptr<std::uint8_t[]> bytes_;  // null before its first use
};

// Compresses the messages of one direction, one after the other.
class Deflater {
 public:
  ~Deflater();
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  using Result = DeflateEngine::Result;

  // The next bytes of the message. They must stay until deflate() has no more.
  void feed(Bytes piece);
  // Fills `room`, at least 16 bytes. `flush`: the receiver is to be able to inflate everything that
  // was fed. The last four bytes are held back, since the end of a message leaves them out.
  Result deflate(MutableBytes room, bool flush);
  // After a deflate() that flushed: the message is complete (RFC 7692 7.2.1).
  void end_message() { held_size_ = 0; }
  // What comes refers to nothing before it, or
  void reset();
  // (after that) to `window`, which may be empty.
  void continue_after(Bytes window);

 private:
  friend class CompressionPool;
  Deflater(CompressionPool& pool, const DeflateDirection& direction, std::uint8_t level);
  DeflateEngine& engine();

  CompressionPool& pool_;
  const DeflateDirection direction_;
  const std::uint8_t level_;
  std::uint8_t held_size_ = 0;
  std::uint8_t held_[4] = {};
  std::unique_ptr<DeflateEngine> engine_;  // null before its first use
};

// Inflates the messages of one direction, one after the other.
class Inflater {
 public:
  enum class Status : std::uint8_t {
    more,     // there may be more: call again
    hungry,   // everything that was fed is used up
    invalid,  // it is not the DEFLATE format
  };
  struct Result {
    Status status;
    std::size_t size;  // bytes written, whatever the status
    std::size_t used;  // bytes of what was fed
  };

  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // The next bytes of the message. They must stay until inflate() was hungry.
  void feed(Bytes piece);
  // Feeds what the end of a message leaves out (RFC 7692 7.2.2).
  void feed_tail();
  // A reference that goes back further than the window is invalid, unless what it refers to stands
  // in the same room: zlib does not look then. Nobody gets anything by it that is not theirs.
  Result inflate(MutableBytes room);
  // After the tail was used up: whether the message ended where one may end.
  bool at_message_end() const;
  // What comes refers to nothing before it.
  void reset();

  // ---- Of the present message; end_message() makes them 0.
  std::uint64_t inflated_bytes() const { return inflated_bytes_; }
  bool tail_fed() const { return tail_fed_; }
  // Whether inflate() may have more before it needs to be fed.
  bool pending() const { return pending_; }
  // Forgets what was fed and is not used yet, which is to be fed again. Returns its size: the end
  // of the piece. Nothing of the tail, which stays where it is.
  std::size_t take_unused();
  void end_message();

 private:
  friend class CompressionPool;
  Inflater(CompressionPool& pool, std::uint8_t window_bits);
  bool restart();

  CompressionPool& pool_;
  const std::uint8_t window_bits_;
  bool tail_fed_ = false;
  bool pending_ = false;
  std::uint64_t inflated_bytes_ = 0;
  std::unique_ptr<z_stream_s> stream_;
};

// One a worker, for its thread only. Outlives every stream that it made.
class CompressionPool {
 public:
  static constexpr std::size_t buffer_bytes = 64 * 1024;

  // `bytes_max`: of all streams together, the spare ones included.
  explicit CompressionPool(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  ~CompressionPool();
  CompressionPool(const CompressionPool&) = delete;
  CompressionPool& operator=(const CompressionPool&) = delete;

  // Each is fresh, and null if there is no memory for it. `level`: 1 to 9, as zlib counts. Of
  // streams that are borrowed levels up to 3 are ISA-L's affair, everything else is zlib's.
  std::unique_ptr<Inflater> take_inflater(std::uint8_t window_bits);
  std::unique_ptr<Deflater> take_deflater(const DeflateDirection& direction, std::uint8_t level);
  std::unique_ptr<SentWindow> take_sent_window(std::uint8_t window_bits);
  // Some are kept for the next who asks.
  void give_back(std::unique_ptr<Inflater> inflater);
  void give_back(std::unique_ptr<Deflater> deflater);

  // Where streams write to. The content is gone with the next call: what is received may be sent on
  // while it stands there, so there are two.
  MutableBytes inflate_buffer() { return buffer(inflate_buffer_); }
  MutableBytes deflate_buffer() { return buffer(deflate_buffer_); }

  // Whether who sends with these terms keeps a stream. Else it borrows one for each message, and
  // keeps a window if there is context takeover.
  static bool keeps_deflater(const DeflateDirection& direction);

  // What they cost, their own small change included; zlib's by its documents.
  static std::size_t inflater_bytes(std::uint8_t window_bits);
  static std::size_t deflater_bytes(const DeflateDirection& direction, std::uint8_t level);
  static std::size_t sent_window_bytes(std::uint8_t window_bits);

  // Compressed bytes that the worker's sockets have received and sent, since they were last taken.
  void count_received(std::size_t bytes) { received_bytes_ += bytes; }
  void count_sent(std::size_t bytes) { sent_bytes_ += bytes; }
  std::uint64_t take_received_bytes() { return std::exchange(received_bytes_, 0); }
  std::uint64_t take_sent_bytes() { return std::exchange(sent_bytes_, 0); }

  std::size_t used_bytes() const { return used_bytes_; }
  std::size_t bytes_max() const { return bytes_max_; }
  // Whether a socket may keep so much for as long as it lives. The largest streams that another may
  // need for a message can still be lent then.
  bool has_room_to_keep(std::size_t bytes);
  // The most that a socket keeps, and the most that it borrows.
  static std::size_t stream_bytes_max();

  // Frees what nobody has used since the last call. Not during an event.
  void trim();
  // Frees everything that is not lent. Not during an event.
  void shrink();

 private:
  friend class Inflater;
  friend class Deflater;
  friend class SentWindow;
  bool reserve(std::size_t bytes);
  template <typename Stream, typename Fits>
  std::unique_ptr<Stream> take_spare(std::vector<std::unique_ptr<Stream>>& spare, Fits fits);
  template <typename Stream>
  static void keep(std::unique_ptr<Stream> stream, std::vector<std::unique_ptr<Stream>>& spare);
  void drop_spare();
  MutableBytes buffer(std::vector<std::uint8_t>& bytes);
  void release(std::size_t bytes) { used_bytes_ -= bytes; }

  const std::size_t bytes_max_;
  std::size_t used_bytes_ = 0;
  std::uint64_t received_bytes_ = 0;
  std::uint64_t sent_bytes_ = 0;
  bool used_since_trim_ = false;
  std::vector<std::unique_ptr<Inflater>> inflaters_;  // spare ones
  std::vector<std::unique_ptr<Deflater>> deflaters_;
  std::vector<std::uint8_t> inflate_buffer_;
  std::vector<std::uint8_t> deflate_buffer_;
};

}  // namespace sluice::ws
