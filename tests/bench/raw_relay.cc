// The measure of script/bench for relays: the least that one can do. One thread, one epoll, one
// buffer; what comes from one side goes to the other as it is, and nothing of it is understood.
//
//   bench_raw_relay PORT      prints "listening on 127.0.0.1:PORT" and relays to PORT until killed
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "raw_server.h"

namespace {

char received[raw::receive_bytes];

// One side of a relayed connection. Both are freed once the two of them have been closed.
struct Side {
  int fd = -1;
  Side* other = nullptr;
  std::string waiting;  // for this side, which the kernel did not take
};

int epoll_fd = -1;
std::vector<Side*> closed;  // in the present turn

void watch(int operation, Side& side) {
  // Whoever has not taken what it was sent has the other side wait.
  const bool reads = side.other->waiting.empty();
  epoll_event event{};
  event.events = (reads ? EPOLLIN : 0U) | (side.waiting.empty() ? 0U : EPOLLOUT);
  event.data.ptr = &side;
  if (::epoll_ctl(epoll_fd, operation, side.fd, &event) != 0) raw::die("epoll_ctl");
}

void close_pair(Side& side) {
  if (side.fd < 0) return;
  ::close(side.fd);
  ::close(side.other->fd);
  side.fd = side.other->fd = -1;
  closed.push_back(&side);
  closed.push_back(side.other);
}

void give(Side& to, const char* bytes, std::size_t size) {
  if (!to.waiting.empty()) return void(to.waiting.append(bytes, size));
  const ssize_t sent = ::send(to.fd, bytes, size, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return close_pair(to);
  const std::size_t taken = sent < 0 ? 0 : static_cast<std::size_t>(sent);
  if (taken == size) return;
  to.waiting.assign(bytes + taken, size - taken);
  watch(EPOLL_CTL_MOD, to);
  watch(EPOLL_CTL_MOD, *to.other);
}

void on_readable(Side& from) {
  const ssize_t count = ::recv(from.fd, received, sizeof received, 0);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) return close_pair(from);
  give(*from.other, received, static_cast<std::size_t>(count));
}

void on_writable(Side& side) {
  const std::string waiting = std::move(side.waiting);
  side.waiting.clear();
  give(side, waiting.data(), waiting.size());
  if (side.fd < 0 || !side.waiting.empty()) return;
  watch(EPOLL_CTL_MOD, side);
  watch(EPOLL_CTL_MOD, *side.other);
}

void on_event(const epoll_event& event) {
  Side& side = *static_cast<Side*>(event.data.ptr);
  if (side.fd >= 0 && (event.events & EPOLLOUT) != 0) on_writable(side);
  if (side.fd >= 0 && (event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) on_readable(side);
}

Side* open_side(int fd) {
  raw::answer_at_once(fd);
  auto* side = new Side;
  side->fd = fd;
  return side;
}

void accept_client(int listener, std::uint16_t port) {
  const int client_fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client_fd < 0) return;
  const int upstream_fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = raw::loopback(port);
  // On the loopback it is done when the call returns.
  if (::connect(upstream_fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    raw::die("connect");
  }
  ::fcntl(upstream_fd, F_SETFL, O_NONBLOCK);
  Side* const client = open_side(client_fd);
  Side* const upstream = open_side(upstream_fd);
  client->other = upstream;
  upstream->other = client;
  watch(EPOLL_CTL_ADD, *client);
  watch(EPOLL_CTL_ADD, *upstream);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: bench_raw_relay PORT\n", stderr), 2;
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[1]));
  const int listener = raw::listen_anywhere();
  epoll_fd = raw::epoll_with(listener);
  raw::serve(
      epoll_fd, [&] { accept_client(listener, port); }, on_event,
      [] {
        // Another event of the same turn may have named them.
        for (Side* side : closed) delete side;
        closed.clear();
      });
}
