// ProcessFigures: what the kernel says about this process, read from /proc.
#pragma once

#include <cstdint>

namespace sluice::metrics {

struct ProcessFigures {
  double cpu_seconds = 0;  // user and system, of all threads
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  std::uint64_t open_fds = 0;
  std::uint64_t max_fds = 0;      // the soft limit: what accept() runs into
  double start_time_seconds = 0;  // since the Unix epoch
  std::uint64_t threads = 0;
};

// Any thread. What cannot be read stays 0.
ProcessFigures read_process();

}  // namespace sluice::metrics
