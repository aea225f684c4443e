#include "net/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "base/prefetch.h"

namespace sluice::net {

namespace {

// What the kernel may hold of bytes that it cannot send yet. Left alone it takes megabytes for a
// peer that does not read, which no bufferedAmount shows.
constexpr int unsent_bytes_max = 512 * 1024;

// What is read at once of a peer that does not take what it is sent: by as much as one read brings
// may bufferedAmount go over a watermark before reading pauses.
constexpr std::size_t blocked_receive_bytes = 4 * 1024;

// Reads of one socket in a turn. With each the kernel gives a buffer full, or has no more.
constexpr int reads_max = 4;

// send(2) and recv(2) rather than write(2) and read(2): the kernel has less to look at on its way
// to the socket, 4 % of a small echo (docs/benchmarks/).
ssize_t send_some(int fd, const ByteQueue& queue) {
  iovec vectors[16];
  const int count = queue.peek(vectors, 16);
  if (count == 1) return ::send(fd, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL);
  msghdr message{};
  message.msg_iov = vectors;
  message.msg_iovlen = static_cast<std::size_t>(count);
  return ::sendmsg(fd, &message, MSG_NOSIGNAL);
}

}  // namespace

// Both fail, harmlessly, on unix sockets.
void set_sending_options(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes_max, sizeof unsent_bytes_max);
}

IoBuffers::IoBuffers()
    : received(new std::uint8_t[receive_bytes]), decrypted(new std::uint8_t[receive_bytes]) {}

Socket::Socket(uv::Loop& loop, IoBuffers& buffers, int fd, Transport::Owner& owner)
    : Transport(buffers.pool), buffers_(buffers), owner_(&owner), poll_(loop, fd, *this) {}

Socket::~Socket() {
  assert(!flushed_soon_);
  poll_.stop();
  ::close(poll_.fd());
}

void Socket::read(bool wanted) {
  reading_ = wanted;
  // What a broken socket still had to say is not going to be read.
  if (!wanted && write_failed_ && tells_resets_) {
    return fail(FailureKind::reset, Error{"connection reset by peer"});
  }
  watch();
}

void Socket::tell_resets_at_once() {
  tells_resets_ = true;
  watch();
}

void Socket::watch() {
  if (failed_) return poll_.watch(false, false);
  const bool readable = reading_ && !ended_;
  // The loop tells of a reset as long as it is asked for something, and nobody sends urgent data.
  const bool resets_only = tells_resets_ && !hung_up_ && !readable && !blocked_;
  poll_.watch(readable, blocked_, resets_only);
}

// False if there is none: it is the hang-up that the loop tells of, and would do so for ever.
bool Socket::take_urgent_byte() {
  char byte = 0;
  return ::recv(poll_.fd(), &byte, 1, MSG_OOB) == 1;
}

void Socket::on_poll(uv::Poll::Events events) {
  if (events.failed) {
    // The peer has reset the connection; what it had sent before is still to be read, up to the
    // error itself.
    while (reading_ && !failed_ && !ended_ && read_once() != 0) continue;
    // Paused in the midst of it: the rest, and the error, wait for read(true). Output does not.
    const bool waits = !reading_ && !blocked_ && !tells_resets_;
    if (!failed_ && !waits) fail(FailureKind::reset, Error{"connection reset by peer"});
    return;
  }
  if (events.urgent && !take_urgent_byte()) {
    hung_up_ = true;
    watch();
  }
  if (events.readable && reading_) read_some();
  if (events.writable && !failed_) {
    flush();
    if (!failed_) owner_->on_sent();
  }
}

// Of the owner, whoever that is: as much as a connection has.
void Socket::on_poll_soon() {
  prefetch(owner_, 192);
  if (send_watch_ != nullptr) prefetch(send_watch_.get(), sizeof *send_watch_);
}

// A busy peer must not starve the others. But of one that has sent much several reads in a row are
// cheaper, while the caches still hold what belongs to it.
void Socket::read_some() {
  for (int reads = 0; reads < reads_max; ++reads) {
    if (read_once() < IoBuffers::receive_bytes) return;
    if (!reading_ || failed_ || blocked_) return;
  }
}

// Returns how many bytes came: none if there is nothing more to read for now, or ever.
std::size_t Socket::read_once() {
  ssize_t count = 0;
  do {
    count = ::recv(poll_.fd(), buffers_.received.get(),
                   blocked_ ? blocked_receive_bytes : IoBuffers::receive_bytes,
                   peeking_ ? MSG_PEEK : 0);
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    on_read({buffers_.received.get(), static_cast<std::size_t>(count)});
    return static_cast<std::size_t>(count);
  }
  if (count == 0 && write_failed_) {
    // The error of a reset is told once: send(2) had it, and what recv(2) finds is no FIN.
    fail(FailureKind::reset, Error{"connection reset by peer"});
  } else if (count == 0) {
    ended_ = true;
    watch();
    on_read_end();
  } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
    fail(FailureKind::reset, fail_errno("receive", errno).value());
  }
  return 0;
}

void Socket::deliver(MutableBytes bytes) {
  lend(bytes);
  owner_->on_receive(bytes);
  lend({});
}

Bytes Socket::lend(Bytes bytes) {
  const Bytes before = buffers_.pool.lend({});
  for (Socket* socket : buffers_.flushed_soon) socket->settle();
  buffers_.flushed_soon.clear();
  buffers_.pool.lend(bytes);
  return before;
}

void Socket::flush_soon() {
  if (flushed_soon_ || !buffers_.pool.lends()) return;
  flushed_soon_ = true;
  buffers_.flushed_soon.push_back(this);
}

void Socket::settle() {
  flushed_soon_ = false;
  if (!output_.empty() && !blocked_ && !failed_) flush();
  output_.keep();
}

// The bytes are there, so one call gets them all; they are what the buffer holds already.
void Socket::take(std::size_t size) {
  if (size == 0) return;
  ssize_t count = 0;
  do {
    count = ::recv(poll_.fd(), buffers_.received.get(), size, 0);
  } while (count < 0 && errno == EINTR);
}

void Socket::write(ByteQueue& queue) {
  blocked_ = false;
  while (!queue.empty() && !failed_ && !write_failed_) {
    const ssize_t written = send_some(poll_.fd(), queue);
    if (written >= 0) {
      queue.consume(static_cast<std::size_t>(written));
      taken_bytes_ += static_cast<std::uint32_t>(written);
      if (send_watch_ != nullptr) send_watch_->on_written();
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      blocked_ = true;
      break;
    } else if (errno != EINTR) {
      // What the peer sent before it went away is read first: its Close frame may be among it.
      write_failed_ = true;
      if (!reading_ || ended_) fail(FailureKind::reset, fail_errno("send", errno).value());
    }
  }
  if (write_failed_) queue.clear();
  watch();
}

void Socket::shutdown_write() {
  ::shutdown(poll_.fd(), SHUT_WR);
}

void Socket::reset_on_close() {
  const linger abort{.l_onoff = 1, .l_linger = 0};
  setsockopt(poll_.fd(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
}

void Socket::set_user_timeout(TimerWheel& wheel, std::uint64_t timeout_ms) {
  send_watch_.reset();
  keep_alive(timeout_ms);
  if (timeout_ms == 0) return;
  send_watch_ =
      std::make_unique<SendWatch>(wheel, poll_.fd(), timeout_ms, [this] { on_unanswered(); });
  send_watch_->on_written();  // something may be outstanding already
}

// Whom nothing is sent to is asked whether it is still there, four times within the timeout.
void Socket::keep_alive(std::uint64_t timeout_ms) {
  const auto seconds = [](std::uint64_t ms) {
    constexpr std::uint64_t kernel_max = 32'767;
    return static_cast<int>(std::clamp<std::uint64_t>(ms / 1'000, 1, kernel_max));
  };
  const int on = timeout_ms != 0 ? 1 : 0;
  const int idle_s = seconds(timeout_ms / 2);
  const int interval_s = seconds(timeout_ms / 8);
  const int probes = 4;
  setsockopt(poll_.fd(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  if (on == 0) return;
  setsockopt(poll_.fd(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  setsockopt(poll_.fd(), IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
  setsockopt(poll_.fd(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

void Socket::on_unanswered() {
  if (failed_) return;
  reset_on_close();  // or the kernel would go on by itself
  fail(FailureKind::reset, Error{"nothing acknowledged within keepalive.tcp_user_timeout"});
}

bool Socket::has_unread() const {
  char byte = 0;
  ssize_t count = 0;
  do {
    count = ::recv(poll_.fd(), &byte, 1, MSG_PEEK);
  } while (count < 0 && errno == EINTR);
  return count >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

Endpoint Socket::local_endpoint() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(poll_.fd(), reinterpret_cast<sockaddr*>(&address), &size);
  return Endpoint(address);
}

void Socket::fail(FailureKind kind, const Error& error) {
  if (failed_) return;
  failed_ = true;
  watch();
  owner_->on_failure(kind, error);
}

void PlainTransport::flush() {
  write(output_);
  if (shutdown_wanted_ && output_.empty()) shutdown_write();
}

void PlainTransport::shutdown() {
  shutdown_wanted_ = true;
  flush();
}

}  // namespace sluice::net
