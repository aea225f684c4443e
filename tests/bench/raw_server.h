// What the raw servers of script/bench have in common: they listen on the loopback, wait with epoll
// and print "listening on 127.0.0.1:PORT". Whatever fails ends them, since a measurement that goes
// on without one of its servers is none.
#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace raw {

constexpr std::size_t receive_bytes = 65 * 1024;  // as much as the gateway reads at once

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, std::strerror(errno));
  std::exit(1);
}

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline int listen_anywhere() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), size) != 0) die("bind");
  if (::listen(listener, 4096) != 0) die("listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  std::printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return listener;
}

inline int epoll_with(int listener) {
  const int epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0) die("epoll_ctl");
  return epoll_fd;
}

inline void answer_at_once(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// A client that gets no more than one event in a turn.
struct Client {
  int fd = -1;
  std::string request;  // as far as it has come, for a server that waits for it to be whole
  std::string waiting;  // what the kernel did not take; until it has, nothing more is read
};

inline void watch(int epoll_fd, int operation, Client& client) {
  epoll_event event{};
  event.events = client.waiting.empty() ? EPOLLIN : EPOLLOUT;
  event.data.ptr = &client;
  if (::epoll_ctl(epoll_fd, operation, client.fd, &event) != 0) die("epoll_ctl");
}

inline void accept_client(int epoll_fd, int listener) {
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  answer_at_once(fd);
  auto* client = new Client;
  client->fd = fd;
  watch(epoll_fd, EPOLL_CTL_ADD, *client);
}

inline void close_client(Client& client) {
  ::close(client.fd);
  delete &client;
}

// How much of it was taken, or -1 if the client has gone.
inline ssize_t send_some(const Client& client, const char* bytes, std::size_t size) {
  const ssize_t sent = ::send(client.fd, bytes, size, MSG_NOSIGNAL);
  return sent < 0 && errno == EAGAIN ? 0 : sent;
}

// Sends what waits for the client, which is watched for what it needs next.
inline void send_waiting(int epoll_fd, Client& client) {
  const ssize_t sent = send_some(client, client.waiting.data(), client.waiting.size());
  if (sent < 0) return close_client(client);
  client.waiting.erase(0, static_cast<std::size_t>(sent));
  watch(epoll_fd, EPOLL_CTL_MOD, client);
}

// Waits for the next events for ever. `on_client` accepts; of the others it is told by `on_event`,
// and by `after_turn` that no event of this turn is left.
template <typename OnClient, typename OnEvent, typename AfterTurn>
[[noreturn]] void serve(int epoll_fd, OnClient on_client, OnEvent on_event, AfterTurn after_turn) {
  while (true) {
    epoll_event events[1024];
    const int count = ::epoll_wait(epoll_fd, events, 1024, -1);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.ptr == nullptr) {
        on_client();
      } else {
        on_event(events[i]);
      }
    }
    after_turn();
  }
}

// The same for servers of Clients; `on_readable` is told of those that sent something. Of several
// threads each has its own clients; the first accepts for all, and hands them out by turns.
template <typename OnReadable>
[[noreturn]] void serve_clients(OnReadable on_readable, std::size_t threads = 1) {
  const int listener = listen_anywhere();
  std::vector<int> epoll_fds = {epoll_with(listener)};
  while (epoll_fds.size() < threads) epoll_fds.push_back(::epoll_create1(EPOLL_CLOEXEC));
  std::size_t next = 0;
  const auto on_client = [&] { accept_client(epoll_fds[next++ % threads], listener); };
  const auto serve_one = [&](int epoll_fd) {
    const auto on_event = [&](const epoll_event& event) {
      Client& client = *static_cast<Client*>(event.data.ptr);
      if (client.waiting.empty()) {
        on_readable(epoll_fd, client);
      } else {
        send_waiting(epoll_fd, client);
      }
    };
    serve(epoll_fd, on_client, on_event, [] {});
  };
  for (std::size_t i = 1; i < threads; ++i) std::thread(serve_one, epoll_fds[i]).detach();
  serve_one(epoll_fds[0]);
  std::abort();  // which is not reached: it serves for ever
}

}  // namespace raw
