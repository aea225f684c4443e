// Errors, which end the program, and clocks.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

namespace load {

using Buffer = std::vector<std::uint8_t>;

// A measurement that goes on without one of its connections is none.
[[noreturn]] void die(const std::string& what);
[[noreturn]] void die_errno(const std::string& what);

std::uint64_t now_ns();  // CLOCK_MONOTONIC
std::uint64_t own_cpu_ns();
double seconds(std::uint64_t ns);

// CPU time of all threads of a server.
class ServerClock {
 public:
  // `pid` 0: there is none to ask, and its time is 0.
  explicit ServerClock(pid_t pid);
  std::uint64_t cpu_ns() const;

 private:
  const pid_t pid_;
  clockid_t clock_{};
};

}  // namespace load
