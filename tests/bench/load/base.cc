#include "base.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace load {

void die(const std::string& what) {
  std::fprintf(stderr, "bench_load: %s\n", what.c_str());
  std::exit(1);
}

void die_errno(const std::string& what) {
  die(what + ": " + std::strerror(errno));
}

// ---- Clocks

namespace {

std::uint64_t read_clock(clockid_t clock) {
  timespec time{};
  if (clock_gettime(clock, &time) != 0) die_errno("clock_gettime");
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace

std::uint64_t now_ns() {
  return read_clock(CLOCK_MONOTONIC);
}

std::uint64_t own_cpu_ns() {
  return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

ServerClock::ServerClock(pid_t pid) : pid_(pid) {
  if (pid != 0 && clock_getcpuclockid(pid, &clock_) != 0) {
    die("no process " + std::to_string(pid));
  }
}

std::uint64_t ServerClock::cpu_ns() const {
  return pid_ == 0 ? 0 : read_clock(clock_);
}

}  // namespace load
