#include "base.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

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

// utime and stime of proc(5), in the kernel's ticks. The name of the program may hold anything;
// what follows its last parenthesis does not.
std::uint64_t ticks_of(const std::string& folder) {
  std::FILE* stat = std::fopen((folder + "/stat").c_str(), "r");
  if (stat == nullptr) return 0;
  char line[1024] = {};
  const std::size_t size = std::fread(line, 1, sizeof line - 1, stat);
  std::fclose(stat);
  const std::size_t end = std::string_view(line, size).rfind(')');
  unsigned long long user = 0;
  unsigned long long system = 0;
  if (end == std::string_view::npos ||
      std::sscanf(line + end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                  &system) != 2) {
    return 0;
  }
  return user + system;
}

// Of a process and of those that it has forked; a tick is 10 ms as a rule.
std::uint64_t tree_cpu_ns(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  const auto tick_ns = 1'000'000'000ULL / static_cast<unsigned long>(sysconf(_SC_CLK_TCK));
  std::uint64_t total = ticks_of(folder) * tick_ns;
  const std::string path = folder + "/task/" + std::to_string(pid) + "/children";
  if (std::FILE* children = std::fopen(path.c_str(), "r")) {
    int child = 0;
    while (std::fscanf(children, "%d", &child) == 1) total += tree_cpu_ns(child);
    std::fclose(children);
  }
  return total;
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

ServerClock::ServerClock(pid_t pid, bool forks) : pid_(pid), forks_(forks) {
  if (pid != 0 && clock_getcpuclockid(pid, &clock_) != 0) {
    die("no process " + std::to_string(pid));
  }
}

std::uint64_t ServerClock::cpu_ns() const {
  if (pid_ == 0) return 0;
  return forks_ ? tree_cpu_ns(pid_) : read_clock(clock_);
}

}  // namespace load
