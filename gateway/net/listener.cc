#include "net/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "net/socket.h"

namespace sluice::net {
namespace {

// Connections taken in one turn: enough to keep up with a storm, few enough for the other work of
// the thread.
constexpr std::size_t accepts_per_turn = 64;

// How long a listener rests after accept(2) failed, so that a full process does not spin.
constexpr std::uint64_t rest_ms = 100;

int open_reserve() {
  return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// A socket file that nobody listens on any more is left over from a process that was killed.
bool is_stale(const Address& address) {
  // A server whose backlog is full would let us wait.
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  const bool refused =
      ::connect(fd, address.raw(), address.raw_size()) != 0 && errno == ECONNREFUSED;
  ::close(fd);
  return refused;
}

// Null without one.
Listener::File file_at(const std::string& path) {
  struct stat status {};
  if (path.empty() || ::lstat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino};
}

void prepare(int fd, const Address& address, bool reuse_port) {
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (reuse_port) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  set_sending_options(fd);
  // "[::]:80" and "0.0.0.0:80" can stand side by side.
  if (address.family() == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  const std::string path = address.unix_path();
  struct stat status {};
  if (!path.empty() && ::lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) &&
      is_stale(address)) {
    ::unlink(path.c_str());
  }
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::open(uv::Loop& loop, const Address& address,
                                                 const Options& options, std::size_t index,
                                                 Owner& owner) {
  const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail_errno("listen on " + address.to_string(), errno);
  prepare(fd, address, options.reuse_port);
  if (::bind(fd, address.raw(), address.raw_size()) != 0 || ::listen(fd, options.backlog) != 0) {
    const int error = errno;
    ::close(fd);
    return fail_errno("listen on " + address.to_string(), error);
  }
  auto bound = Address::of_socket(fd);
  if (!bound) {
    ::close(fd);
    return tl::unexpected(bound.error());
  }
  return std::unique_ptr<Listener>(new Listener(loop, fd, *bound, index, owner));
}

Listener::Listener(uv::Loop& loop, int fd, const Address& address, std::size_t index, Owner& owner)
    : fd_(fd),
      reserve_fd_(open_reserve()),
      address_(address),
      file_(file_at(address.unix_path())),
      index_(index),
      owner_(owner),
      loop_(loop),
      poll_(loop, fd, *this) {}

Listener::~Listener() {
  if (reserve_fd_ >= 0) ::close(reserve_fd_);
  refuse();
}

// Once only: soon the file may be another process's. It is already if that has moved its own there.
void Listener::refuse() {
  if (std::exchange(refused_, true)) return;
  ::shutdown(fd_.get(), SHUT_RD);
  const std::string path = address_.unix_path();
  if (!path.empty() && file_at(path) == file_) ::unlink(path.c_str());
}

void Listener::start() {
  if (reserve_fd_ < 0) reserve_fd_ = open_reserve();
  poll_.watch(true, false);
}

void Listener::on_poll(uv::Poll::Events) {
  for (std::size_t i = 0; i < accepts_per_turn; ++i) {
    if (!accept_one()) return;
  }
}

bool Listener::accept_one() {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  const int fd =
      ::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) {
    owner_.on_accept(*this, fd, Endpoint(peer));
    return true;
  }
  const int error = errno;
  // The client has gone before its turn came: not our trouble.
  if (error == ECONNABORTED || error == EINTR || error == EPROTO) return true;
  if (error == EAGAIN || error == EWOULDBLOCK) return false;
  if (error == EINVAL) {  // refuse() was called, perhaps just now
    poll_.watch(false, false);
    return false;
  }
  const bool full = error == EMFILE || error == ENFILE;
  owner_.on_accept_error(*this, error, full ? shed() : 0);
  rest();
  return false;
}

// Out of descriptors: the clients in the queue learn at once that there is no room, rather than
// wait for nothing.
std::size_t Listener::shed() {
  std::size_t count = 0;
  while (count < accepts_per_turn && shed_one()) ++count;
  return count;
}

bool Listener::shed_one() {
  if (reserve_fd_ < 0) return false;
  ::close(reserve_fd_);
  const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) ::close(fd);
  reserve_fd_ = open_reserve();
  return fd >= 0;
}

void Listener::rest() {
  poll_.watch(false, false);
  if (!resume_) resume_.emplace(loop_, [this] { start(); });
  resume_->start(rest_ms);
}

}  // namespace sluice::net
