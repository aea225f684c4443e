// Socket: a connected non-blocking socket on a loop; the part that plain and TLS transports share.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/byte_queue.h"
#include "net/send_watch.h"
#include "net/transport.h"
#include "uv/poll.h"

namespace sluice::net {

class Socket;

// How the kernel is to send: small messages at once, and without holding much that it cannot send
// yet. For sockets that are dialled; those that a listener accepts have it of the listener.
void set_sending_options(int fd);

// What the connections of one worker share while they handle an event: one buffer to read into,
// one to decrypt into, the pool of chunks for output. Not thread-safe.
struct IoBuffers {
  // Senders like powers of two: a message of 64 KiB, or a batch of smaller ones, comes with
  // headers.
  static constexpr std::size_t receive_bytes = (64 + 1) * 1024;
  IoBuffers();

  std::unique_ptr<std::uint8_t[]> received;
  std::unique_ptr<std::uint8_t[]> decrypted;
  ChunkPool pool;
  std::vector<Socket*> flushed_soon;  // before anything else is lent
};

// Owns the fd. The parts of Transport that are the same with and without TLS.
class Socket : public Transport, private uv::Poll::Owner {
 public:
  // Not inside of an on_receive(), whosever it is.
  ~Socket() override;
  void set_owner(Transport::Owner& owner) override { owner_ = &owner; }
  void read(bool wanted) override;
  void tell_resets_at_once() override;
  void reset_on_close() override;
  void flush_soon() override;
  Bytes lend(Bytes bytes) override;
  void set_user_timeout(TimerWheel& wheel, std::uint64_t timeout_ms) override;
  SendProgress progress() const override { return send_progress(poll_.fd()); }
  bool has_unread() const override;
  Endpoint local_endpoint() const override;
  Result<Address> peer_address() const override { return Address::of_peer(poll_.fd()); }
  bool blocked() const override { return blocked_; }
  std::uint32_t taken_bytes() const override { return taken_bytes_; }
  bool write_failed() const override { return write_failed_; }

 protected:
  Socket(uv::Loop& loop, IoBuffers& buffers, int fd, Transport::Owner& owner);

  // Bytes have come from the kernel.
  virtual void on_read(MutableBytes bytes) = 0;
  virtual void on_read_end() = 0;

  // Gives the owner bytes that were received. What outputs have borrowed of them is written or
  // copied before it returns.
  void deliver(MutableBytes bytes);

  // Writes as much of the queue as the kernel takes; then blocked() tells whether all of it.
  void write(ByteQueue& queue);
  void shutdown_write();
  void fail(FailureKind kind, const Error& error);

  // While peeking, what on_read() is given stays in the kernel, and take() says how much of it was
  // used: for a handshake, behind which the first bytes may be for the stream's next owner.
  void peek(bool wanted) { peeking_ = wanted; }
  bool peeking() const { return peeking_; }
  void take(std::size_t size);

  bool failed() const { return failed_; }

  IoBuffers& buffers_;
  Transport::Owner* owner_;
  bool shutdown_wanted_ : 1 = false;  // our direction ends once everything has left

 private:
  void on_poll(uv::Poll::Events events) override;
  void on_poll_soon() override;
  void on_unanswered();
  void read_some();
  std::size_t read_once();
  void settle();
  void watch();
  void keep_alive(std::uint64_t timeout_ms);
  bool take_urgent_byte();

  // Bits: idle connections are many.
  bool reading_ : 1 = false;
  bool blocked_ : 1 = false;
  bool ended_ : 1 = false;
  bool failed_ : 1 = false;
  bool write_failed_ : 1 = false;
  bool peeking_ : 1 = false;
  bool tells_resets_ : 1 = false;  // while it is neither read nor written to
  bool hung_up_ : 1 = false;       // both directions have ended: no reset can come
  bool flushed_soon_ : 1 = false;  // among those in the buffers
  std::uint32_t taken_bytes_ = 0;
  uv::Poll poll_;
  std::unique_ptr<SendWatch> send_watch_;  // null: none was asked for
};

// A plain TCP or unix stream.
class PlainTransport final : public Socket {
 public:
  PlainTransport(uv::Loop& loop, IoBuffers& buffers, int fd, Transport::Owner& owner)
      : Socket(loop, buffers, fd, owner) {}

  void flush() override;
  void shutdown() override;

 private:
  void on_read(MutableBytes bytes) override { deliver(bytes); }
  void on_read_end() override { owner_->on_end(); }
};

}  // namespace sluice::net
