#include "admin/healthcheck.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

using namespace sluice;

namespace {

// Answers one client with fixed bytes.
class OneAnswer {
 public:
  explicit OneAnswer(std::string answer) : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(listener_, 1) == 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this, bytes = std::move(answer)] {
      const int fd = ::accept(listener_, nullptr, nullptr);
      char buffer[1024];
      const ssize_t count = ::recv(fd, buffer, sizeof buffer, 0);
      if (count > 0) request_.assign(buffer, static_cast<std::size_t>(count));
      (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ::close(fd);
    });
  }
  ~OneAnswer() { end(); }
  const std::string& port() const { return port_; }
  const std::string& request() {
    end();
    return request_;
  }

 private:
  void end() {
    if (thread_.joinable()) thread_.join();
    if (listener_ >= 0) ::close(listener_);
    listener_ = -1;
  }
  int listener_;
  std::string port_;
  std::string request_;
  std::thread thread_;
};

std::string ask(const std::string& answer) {
  const OneAnswer server(answer);
  const auto health = admin::check_health("127.0.0.1:" + server.port());
  return health ? "healthy" : health.error().message;
}

}  // namespace

TEST_CASE("only an answer of 200 is health") {
  CHECK(ask("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n") == "healthy");
  CHECK(ask("HTTP/1.1 503 Service Unavailable\r\n\r\n") ==
        "unhealthy: HTTP/1.1 503 Service Unavailable");
  CHECK(ask("HTTP/1.1 2000 OK\r\n\r\n") == "unhealthy: HTTP/1.1 2000 OK");
  CHECK(ask("") == "unhealthy: ");
}

TEST_CASE("a listener on all addresses is asked on loopback") {
  OneAnswer server("HTTP/1.1 200 OK\r\n\r\n");
  CHECK(admin::check_health("0.0.0.0:" + server.port()).has_value());
  CHECK(server.request() ==
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

TEST_CASE("nobody there is an error that names the address") {
  std::string port;
  {
    const OneAnswer server("");
    port = server.port();
    (void)admin::check_health("127.0.0.1:" + port);
  }
  const auto health = admin::check_health("127.0.0.1:" + port);
  REQUIRE_FALSE(health.has_value());
  CHECK(health.error().message == "connect to 127.0.0.1:" + port + ": Connection refused");
  CHECK_FALSE(admin::check_health("nonsense").has_value());
}
