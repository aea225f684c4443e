// A network for a test alone: loopback, IPv4, and as few ports to connect from as it likes.
#pragma once

#include <doctest/doctest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <string>

namespace sluice::test {

inline bool make_own_network(const std::string& port_range) {
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
  for (const char* interface : {"all", "default", "lo"}) {
    std::ofstream(std::string("/proc/sys/net/ipv6/conf/") + interface + "/disable_ipv6") << 1;
  }
  std::ofstream ports("/proc/sys/net/ipv4/ip_local_port_range");
  ports << port_range << std::flush;
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool up = ::ioctl(fd, SIOCSIFFLAGS, &loopback) == 0;
  ::close(fd);
  return ports.good() && up;
}

// Runs `act` there, in a process of its own, whose words are an empty text if all went well. Where
// the system does not allow that, it is left out.
inline void in_own_network(const std::string& port_range, const std::function<std::string()>& act) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const std::string words = make_own_network(port_range) ? act() : "not allowed";
    const bool told = ::write(ends[1], words.data(), words.size()) >= 0;
    ::_exit(told ? 0 : 1);
  }
  ::close(ends[1]);
  std::string words;
  char piece[1024];
  for (ssize_t count = 0; (count = ::read(ends[0], piece, sizeof piece)) > 0;) {
    words.append(piece, static_cast<std::size_t>(count));
  }
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  if (words == "not allowed") {
    MESSAGE("a network of one's own is not allowed here");
  } else {
    CHECK(words == "");
  }
}

}  // namespace sluice::test
