// A transport on a loop, with a client's end that the test holds: what is told is written down.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/fd.h"
#include "net/address.h"
#include "net/socket.h"
#include "uv/loop.h"
#include "uv/timer.h"

namespace sluice::test {

// A loop that runs until something is true, and the test has failed if that takes too long.
class TestLoop {
 public:
  // Conditions are looked at each turn, or by a timer if somebody else needs the end of the turn.
  enum class Look { turn, timer };

  explicit TestLoop(Look when = Look::turn) {
    std::signal(SIGPIPE, SIG_IGN);  // as the gateway does
    if (when == Look::timer) return;
    loop.at_turn_end([this] {
      if (at_turn_end) at_turn_end();
      look();
    });
  }
  void run_until(std::function<bool()> condition) {
    until_ = std::move(condition);
    bool late = false;
    uv::Timer deadline(loop, [&] {
      late = true;
      loop.stop();
    });
    deadline.start(10'000);
    uv::Timer poll(loop, [this] { look(); });
    poll.start(2, 2);
    loop.run();
    until_ = {};
    REQUIRE_FALSE(late);
  }
  void run_for(std::uint64_t ms) {
    const std::uint64_t end = uv::now_ns() + ms * 1'000'000;
    run_until([&] { return uv::now_ns() >= end; });
  }

  uv::Loop loop;
  std::function<void()> at_turn_end;

 private:
  void look() {
    if (until_ && until_()) loop.stop();
  }
  std::function<bool()> until_;
};

// Both ends of a TCP connection over loopback.
inline std::pair<int, int> tcp_pair() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(listener, 1) == 0);
  socklen_t size = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const int server = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  REQUIRE(server >= 0);
  net::set_sending_options(server);
  ::close(listener);
  return {server, client};
}

// An address that does not answer: its listener has all the connections that it wants, so that the
// kernel drops whatever else comes.
class Dropping {
 public:
  explicit Dropping(const std::string& address = "127.0.0.1:0",
                    const std::string& client_address = "127.0.0.1:0")
      : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        client_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        address_(*net::Address::parse(address)) {
    const auto from = *net::Address::parse(client_address);
    REQUIRE(::bind(client_.get(), from.raw(), from.raw_size()) == 0);
    REQUIRE(::bind(listener_.get(), address_.raw(), address_.raw_size()) == 0);
    REQUIRE(::listen(listener_.get(), 0) == 0);
    address_ = *net::Address::of_socket(listener_.get());
    REQUIRE(::connect(client_.get(), address_.raw(), address_.raw_size()) == 0);
  }
  const net::Address& address() const { return address_; }

 private:
  Fd listener_, client_;
  net::Address address_;
};

inline std::pair<int, int> unix_pair() {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  REQUIRE(::fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
  return {fds[0], fds[1]};
}

// The client's end: blocking, but not for ever.
class ClientEnd {
 public:
  explicit ClientEnd(int fd) : fd_(fd) {
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  ~ClientEnd() { close(); }
  ClientEnd(const ClientEnd&) = delete;
  ClientEnd& operator=(const ClientEnd&) = delete;

  void send(std::string_view text) const {
    REQUIRE(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
  }
  // Up to `size` bytes; fewer only at the end of the stream or at an error.
  std::string read(std::size_t size) {
    std::string text(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      const ssize_t count = ::recv(fd_, text.data() + got, size - got, 0);
      if (count <= 0) {
        error = count < 0 ? errno : 0;
        break;
      }
      got += static_cast<std::size_t>(count);
    }
    text.resize(got);
    return text;
  }
  void shutdown() const { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void reset() {
    const linger abort{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    close();
  }
  int fd() const { return fd_; }

  int error = 0;

 private:
  int fd_;
};

// Writes down what a transport tells: "secure; receive 'abc'; end; failure tls".
class Recorder final : public net::Transport::Owner {
 public:
  void on_secure() override { tell("secure"); }
  void on_receive(MutableBytes bytes) override {
    received += as_text(bytes);
    if (receive_then) receive_then(as_text(bytes));
  }
  void on_end() override { tell("end"); }
  void on_sent() override {
    ++sent;
    if (sent_then) sent_then();
  }
  void on_failure(net::FailureKind kind, const Error& error) override {
    tell(kind == net::FailureKind::tls ? "failure tls" : "failure reset");
    why = error.message;
  }
  bool told(std::string_view what) const { return told_.find(what) != std::string::npos; }
  const std::string& told() const { return told_; }

  std::string received;
  std::string why;
  int sent = 0;
  std::function<void(std::string_view)> receive_then;
  std::function<void()> sent_then;

 private:
  void tell(const std::string& what) {
    if (!told_.empty()) told_ += "; ";
    told_ += what;
  }
  std::string told_;
};

// The server's end: a transport, which a derived fixture makes, its loop and its owner.
struct ServerEnd {
  ServerEnd() = default;
  ~ServerEnd() {
    transport.reset();
    CHECK(loop.loop.close().has_value());
  }
  ServerEnd(const ServerEnd&) = delete;
  ServerEnd& operator=(const ServerEnd&) = delete;

  void send(std::string_view text) const {
    transport->output().append(as_bytes(text));
    transport->flush();
  }

  TestLoop loop;
  net::IoBuffers buffers;
  Recorder owner;
  std::unique_ptr<net::Transport> transport;
};

// Bytes that tell when one is missing or in the wrong place.
inline std::string numbered(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 2654435761U) >> 13);
  return text;
}

}  // namespace sluice::test
