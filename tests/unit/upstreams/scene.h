// A worker's surroundings without the worker, and servers that the kernel alone keeps up.
#pragma once

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "support/stream.h"
#include "upstreams/upstream.h"
#include "worker_context.h"

namespace sluice::test {

// Listens on a port of its own, or on the one that is given. Connections stand as soon as the
// kernel has them, accepted or not; nobody reads or answers unless the test does.
class Server {
 public:
  explicit Server(std::uint16_t port = 0) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(fd_, 64) == 0);
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~Server() { ::close(fd_); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string port() const { return std::to_string(port_); }
  // What waits to be accepted; negative if nothing does.
  int accept_now() const {
    const timeval moment{.tv_sec = 0, .tv_usec = 1};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment);
    return ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  }

 private:
  int fd_;
  int port_ = 0;
};

// A port that is bound and refuses, so that nobody else comes to listen there.
class Refusing {
 public:
  Refusing() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~Refusing() { ::close(fd_); }
  Refusing(const Refusing&) = delete;
  Refusing& operator=(const Refusing&) = delete;

  // From now on it takes connections.
  void listen() const { REQUIRE(::listen(fd_, 64) == 0); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int fd_;
  int port_ = 0;
};

// While it lives, the process gets no descriptor.
class NoDescriptors {
 public:
  NoDescriptors() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit none{.rlim_cur = 3, .rlim_max = before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
};

struct WorkerScene {
  WorkerScene() {
    loop.at_turn_end = [this] { end_turn(); };
  }
  ~WorkerScene() {
    end_turn();
    CHECK(loop.loop.close().has_value());
  }
  WorkerScene(const WorkerScene&) = delete;
  WorkerScene& operator=(const WorkerScene&) = delete;

  void end_turn() {
    do {
      while (turn.has_woken()) turn.run_woken();
    } while (turn.bury());
  }
  // Time passes for deadlines, and for nothing else.
  void pass(std::uint64_t ms) {
    for (std::uint64_t passed = 0; passed < ms; passed += TimerWheel::tick_ms) {
      wheel.advance(clock_ms += TimerWheel::tick_ms);
      end_turn();
    }
  }

  TestLoop loop;
  TimerWheel wheel{0};
  std::uint64_t clock_ms = 0;
  net::IoBuffers buffers;
  Turn turn;
  metrics::WorkerCounters counters{1};
  ws::CompressionPool compression{64 * 1024 * 1024};
  WorkerContext context{loop.loop, wheel, buffers, turn, counters, compression};
};

}  // namespace sluice::test
