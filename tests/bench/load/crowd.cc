#include "crowd.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "frames.h"

namespace load {

void Handler::on_writable(Client&) {}

void Handler::on_end(Client&, const std::string& why) {
  die(why.empty() ? "the server closed a connection" : why);
}

// ---- Sockets

namespace {

sockaddr_in ipv4(std::uint32_t address, std::uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  result.sin_addr.s_addr = htonl(address);
  return result;
}

// The port is found when it connects, among all that are not in use for this very server.
void come_from(int fd, std::uint32_t source) {
  const int on = 1;
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  const sockaddr_in address = ipv4(source, 0);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    die_errno("bind");
  }
}

// Returns -1 if it failed at once.
int connect_to(std::uint16_t port, std::uint32_t source) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) die_errno("socket");
  if (source != 0) come_from(fd, source);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const sockaddr_in address = ipv4(INADDR_LOOPBACK, port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EINPROGRESS) {
    return fd;
  }
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

// As a rule it has connected when connect() returns, on the loopback. But where the listener's
// queue is full it may take seconds, for which the other clients shall not have to wait.
bool is_writable(int fd) {
  pollfd room{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&room, 1, 0) == 1;
}

int connect_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

ssize_t read_some(const Client& client, Buffer& room) {
  if (client.ssl == nullptr) return ::read(client.fd, room.data(), room.size());
  return as_count(client.ssl, SSL_read(client.ssl, room.data(), static_cast<int>(room.size())));
}

ssize_t write_some(const Client& client, const void* bytes, std::size_t size) {
  if (client.ssl == nullptr) return ::send(client.fd, bytes, size, MSG_NOSIGNAL);
  return as_count(client.ssl, SSL_write(client.ssl, bytes, static_cast<int>(size)));
}

}  // namespace

Crowd::Crowd(const Options& options)
    : options_(options),
      upgrade_(make_upgrade(options)),
      epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)),
      received_(256 * 1024) {
  if (epoll_fd_ < 0) die_errno("epoll_create1");
  if (options.tls) tls_ = std::make_unique<Tls>(options.resume);
}

Crowd::~Crowd() {
  ::close(epoll_fd_);
}

// ---- Opening and closing

// A few at a time, as clients come in real life.
void Crowd::open_all(std::span<Client> clients, Handler& handler) {
  for (Client& client : clients) {
    open(client, handler);
    while (opening_ >= options_.opening) poll();
  }
  while (opening_ > 0) poll();
}

void Crowd::open(Client& client, Handler& handler) {
  client.handler = &handler;
  client.opened_ns = now_ns();
  const auto turn = static_cast<std::uint32_t>(opened_++ % options_.sources);
  client.fd = connect_to(options_.port, options_.source == 0 ? 0 : options_.source + turn);
  ++opening_;
  if (client.fd < 0) return lose(client, std::string("connect: ") + std::strerror(errno));
  client.partial.clear();
  client.state = Client::State::connecting;
  client.watches_input = true;
  client.watches_output = !is_writable(client.fd);
  watch(client, EPOLL_CTL_ADD);
  if (!client.watches_output) on_connected(client);
}

void Crowd::on_connected(Client& client) {
  if (const int error = connect_error(client.fd); error != 0) {
    return lose(client, std::string("connect: ") + std::strerror(error));
  }
  watch_output(client, false);
  if (tls_ != nullptr) {
    client.ssl = tls_->begin(client.fd);
    client.state = Client::State::securing;
    return secure(client);
  }
  if (options_.raw) return finish_opening(client);
  upgrade(client);
}

void Crowd::secure(Client& client) {
  const int result = SSL_connect(client.ssl);
  if (result == 1) return options_.raw ? finish_opening(client) : upgrade(client);
  if (as_count(client.ssl, result) >= 0 || errno != EAGAIN) {
    lose(client, "the TLS handshake failed");
  }
}

void Crowd::upgrade(Client& client) {
  client.state = Client::State::upgrading;
  write_small(client, upgrade_.data(), upgrade_.size());
}

void Crowd::on_upgrade_answer(Client& client, const std::uint8_t* bytes, std::size_t size) {
  client.partial.append(reinterpret_cast<const char*>(bytes), size);
  if (!client.partial.ends_with("\r\n\r\n")) return;
  const std::string refused = refused_upgrade(options_, client.partial);
  client.partial = {};
  if (!refused.empty()) return lose(client, "the upgrade was answered with: " + refused);
  finish_opening(client);
}

void Crowd::finish_opening(Client& client) {
  --opening_;
  client.state = Client::State::open;
  client.handler->on_open(client);
}

void Crowd::close(Client& client) {
  // The server has closed first and listens no more. Without this the session's ticket were void.
  if (client.ssl != nullptr) SSL_set_shutdown(client.ssl, SSL_SENT_SHUTDOWN);
  SSL_free(std::exchange(client.ssl, nullptr));
  ::close(std::exchange(client.fd, -1));
  client.state = Client::State::closed;
}

void Crowd::reset(Client& client) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(client);
}

// Also one that has never opened.
void Crowd::lose(Client& client, const std::string& why) {
  if (client.state != Client::State::open) --opening_;
  if (client.fd >= 0) close(client);
  client.handler->on_end(client, why);
}

// ---- Sending

std::size_t Crowd::write(Client& client, const void* bytes, std::size_t size) {
  std::size_t sent = 0;
  while (sent < size) {
    const ssize_t count =
        write_some(client, static_cast<const std::uint8_t*>(bytes) + sent, size - sent);
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) {
      lose(client, std::string("write: ") + std::strerror(errno));
      return sent;
    }
    sent += static_cast<std::size_t>(count);
  }
  watch_output(client, sent < size);
  return sent;
}

void Crowd::write_small(Client& client, const void* bytes, std::size_t size) {
  if (write_some(client, bytes, size) == static_cast<ssize_t>(size)) return;
  lose(client, std::string("write: ") + std::strerror(errno));
}

std::size_t Crowd::answer_pings(Client& client, const std::uint8_t* bytes, std::size_t size) {
  std::size_t used = 0;
  std::string& ping = client.partial;
  while (used < size && (!ping.empty() || bytes[used] == ping_frame)) {
    ping.push_back(static_cast<char>(bytes[used++]));
    if (ping.size() < 2 || ping.size() < 2 + static_cast<std::size_t>(ping[1])) continue;
    Buffer pong;
    append_header(pong, pong_frame, ping.size() - 2, true);
    append_masked(pong, std::string_view(ping).substr(2));
    ping.clear();
    ++pings_;
    // One that waits for room shows by what it has sent that it lives.
    if (!client.watches_output) write_small(client, pong.data(), pong.size());
  }
  return used;
}

// ---- Events

void Crowd::poll(std::uint64_t wait_ns) {
  epoll_event events[512];
  const timespec wait{.tv_sec = static_cast<time_t>(wait_ns / 1'000'000'000),
                      .tv_nsec = static_cast<long>(wait_ns % 1'000'000'000)};
  const int count = ::epoll_pwait2(epoll_fd_, events, 512, &wait, nullptr);
  if (count < 0 && errno != EINTR) die_errno("epoll_pwait2");
  for (int i = 0; i < count; ++i) {
    if (events[i].data.ptr == nullptr) {
      read_stdin();
    } else {
      on_client_event(*static_cast<Client*>(events[i].data.ptr), events[i].events);
    }
  }
}

void Crowd::on_client_event(Client& client, std::uint32_t events) {
  if (client.state == Client::State::connecting) return on_connected(client);
  if (client.state == Client::State::securing) return secure(client);
  if ((events & EPOLLOUT) != 0) client.handler->on_writable(client);
  if (client.fd < 0 || (events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
  // One that does not read is told of its end all the same.
  if (!client.watches_input) return lose(client, "a connection that does not read has ended");
  receive(client);
}

void Crowd::receive(Client& client) {
  // What OpenSSL has read already, epoll does not tell of.
  while (receive_some(client) && client.ssl != nullptr && SSL_pending(client.ssl) > 0) {
  }
}

// Returns whether the client is still there.
bool Crowd::receive_some(Client& client) {
  const ssize_t count = read_some(client, received_);
  if (count < 0 && errno == EAGAIN) return true;
  if (count <= 0) {
    lose(client, count == 0 ? "" : std::string("read: ") + std::strerror(errno));
    return false;
  }
  const auto size = static_cast<std::size_t>(count);
  if (client.state == Client::State::upgrading) {
    on_upgrade_answer(client, received_.data(), size);
  } else {
    client.handler->on_bytes(client, received_.data(), size);
  }
  return client.fd >= 0;
}

void Crowd::watch(Client& client, int operation) {
  epoll_event event{};
  event.events = (client.watches_input ? EPOLLIN : 0U) | (client.watches_output ? EPOLLOUT : 0U);
  event.data.ptr = &client;
  if (::epoll_ctl(epoll_fd_, operation, client.fd, &event) != 0) die_errno("epoll_ctl");
}

void Crowd::watch_output(Client& client, bool wanted) {
  if (std::exchange(client.watches_output, wanted) != wanted) watch(client, EPOLL_CTL_MOD);
}

void Crowd::watch_input(Client& client, bool wanted) {
  if (std::exchange(client.watches_input, wanted) != wanted) watch(client, EPOLL_CTL_MOD);
}

// ---- Lines on stdin

std::optional<std::string> Crowd::wait_for_line() {
  listen_to_stdin();
  while (true) {
    if (auto line = next_line()) return line;
    if (stdin_ended_) return std::nullopt;
    poll();
  }
}

std::optional<std::string> Crowd::next_line() {
  const std::size_t end = input_.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::string line = input_.substr(0, end);
  input_.erase(0, end + 1);
  return line;
}

// A file, unlike a pipe, cannot be waited for: nobody is there to say anything.
void Crowd::listen_to_stdin() {
  if (std::exchange(stdin_watched_, true)) return;
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) stdin_ended_ = true;
}

void Crowd::read_stdin() {
  char room[4096];
  const ssize_t count = ::read(STDIN_FILENO, room, sizeof room);
  if (count > 0) return void(input_.append(room, static_cast<std::size_t>(count)));
  stdin_ended_ = true;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, STDIN_FILENO, nullptr);
}

}  // namespace load
