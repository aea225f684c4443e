// Transport: a byte stream to one peer, with its queue of bytes that the kernel has not taken yet.
//
// What is to be sent is appended to output() and leaves with flush(); reading is switched on and
// off with read(). All of it happens on the worker's thread. The owner's events come from the loop
// or from flush(), shutdown() and read(false); none destroys the transport, which lives until the
// end of the turn at least.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "base/result.h"
#include "base/timer_wheel.h"
#include "net/address.h"
#include "net/tcp_info.h"

namespace sluice::net {

enum class FailureKind { reset, tls };

class Transport {
 public:
  class Owner {
   public:
    // The TLS handshake has succeeded. Never comes for plain TCP.
    virtual void on_secure() = 0;
    // Bytes from the peer, valid during the call; they may be changed in place, and outputs may
    // borrow them. May still come after read(false), for what was read already.
    virtual void on_receive(MutableBytes bytes) = 0;
    // The peer will send no more (FIN). Comes once.
    virtual void on_end() = 0;
    // The kernel had refused bytes, and now took some.
    virtual void on_sent() = 0;
    // The stream is broken. Comes once, and last.
    virtual void on_failure(FailureKind kind, const Error& error) = 0;

   protected:
    ~Owner() = default;
  };

  explicit Transport(ChunkPool& pool) : output_(pool) {}
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Who hears of what happens from now on. For streams that change hands, such as one to an
  // upstream that was opened by one object and is used by another.
  virtual void set_owner(Owner& owner) = 0;

  // Appended bytes leave with the next flush().
  ByteQueue& output() { return output_; }
  const ByteQueue& output() const { return output_; }

  // read(false) tells of a reset at once if that was asked for and writing has failed before.
  virtual void read(bool wanted) = 0;
  // From now on a reset is a failure at once even while nothing is read, and what was not read is
  // lost. Without it, what came before the reset is kept for read(true), which then finds both. A
  // FIN waits in either case: the peer's other direction may be open.
  virtual void tell_resets_at_once() = 0;
  // Hands output() to the kernel as far as it takes it. What is left goes by itself later.
  virtual void flush() = 0;
  // Flushes as soon as what is lent is lent no more: when the present on_receive() has returned,
  // whosever it is, or with the next lend(). Nothing happens in other events. To be called after
  // output() may have borrowed (ByteQueue::append_lent).
  virtual void flush_soon() {}
  // From now on the worker's outputs may borrow `bytes` in place of what was lent before, which is
  // returned; none has any of that any more. Whoever lends takes back what it has lent.
  virtual Bytes lend(Bytes) { return {}; }
  // Ends our direction, once everything in output() has left.
  virtual void shutdown() = 0;
  // Makes the close a reset (RST): for a peer that is not to get an orderly end.
  virtual void reset_on_close() = 0;

  // How long the peer's kernel may leave what is sent from now on unanswered before the stream has
  // failed; 0: as long as ours thinks right. A peer that does not read, and whose kernel says so,
  // is not meant. While nothing is sent our kernel asks. The wheel outlives the transport.
  virtual void set_user_timeout(TimerWheel& wheel, std::uint64_t timeout_ms) = 0;

  // How far the peer has come with what was flushed. A system call.
  virtual SendProgress progress() const = 0;

  // Something has come that was not read: bytes, the end of the stream or its reset. A system call.
  virtual bool has_unread() const = 0;

  // Our end of the stream. A system call.
  virtual Endpoint local_endpoint() const = 0;
  // The peer's end, while the stream stands. A system call.
  virtual Result<Address> peer_address() const = 0;

  // The kernel refused bytes at the last flush().
  virtual bool blocked() const = 0;
  // What it has taken since the stream stands, encrypted if there is TLS; modulo 2^32.
  virtual std::uint32_t taken_bytes() const = 0;
  // It takes nothing any more: what was in output() is gone, and was not sent.
  virtual bool write_failed() const = 0;
  // Bytes of output() that are encrypted already and wait behind TLS.
  virtual std::size_t encrypted_bytes() const { return 0; }
  virtual bool secure() const { return false; }
  virtual const char* tls_version() const { return ""; }
  // Requests for this host belong to another certificate than the one of this stream.
  virtual bool is_misdirected(const std::string&) const { return false; }

  std::size_t buffered_bytes() const { return output_.size() + encrypted_bytes(); }

 protected:
  ByteQueue output_;
};

}  // namespace sluice::net
