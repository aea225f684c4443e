#include "admin/healthcheck.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "net/address.h"

namespace sluice::admin {
namespace {

constexpr timeval patience{.tv_sec = 3, .tv_usec = 0};

std::string reachable(const net::Address& address, const std::string& text) {
  if (!address.is_wildcard()) return text;
  return (address.family() == AF_INET6 ? "[::1]:" : "127.0.0.1:") + std::to_string(address.port());
}

Result<std::string> ask(int fd, const net::Address& address) {
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(fd, address.raw(), address.raw_size()) != 0) {
    return fail_errno("connect to " + address.to_string(), errno);
  }
  static constexpr std::string_view request =
      "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return fail_errno("send to " + address.to_string(), errno);
  }
  char answer[64];
  const ssize_t count = ::recv(fd, answer, sizeof answer, MSG_WAITALL);
  if (count < 0) return fail_errno("receive from " + address.to_string(), errno);
  return std::string(answer, static_cast<std::size_t>(count));
}

}  // namespace

Result<> check_health(const std::string& address) {
  auto parsed = net::Address::parse(address);
  if (!parsed) return tl::unexpected(parsed.error());
  parsed = net::Address::parse(reachable(*parsed, address));
  const int fd = ::socket(parsed->family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno("socket", errno);
  const auto answer = ask(fd, *parsed);
  ::close(fd);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->starts_with("HTTP/1.1 200 ")) return {};
  return fail("unhealthy: " + answer->substr(0, answer->find('\r')));
}

}  // namespace sluice::admin
