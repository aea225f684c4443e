#include "base/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>

namespace sluice {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

// "268435456", or "max" for no limit.
std::uint64_t limit_in(const char* path) {
  std::uint64_t bytes = 0;
  return std::ifstream(path) >> bytes ? bytes : unlimited;
}

std::uint64_t machine_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return unlimited;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes);
}

}  // namespace

std::uint64_t available_memory() {
  const std::uint64_t bytes =
      std::min({limit_in("/sys/fs/cgroup/memory.max"),
                limit_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"), machine_memory()});
  return bytes == unlimited ? 0 : bytes;
}

std::uint64_t anonymous_memory() {
  unsigned long long total = 0;
  unsigned long long resident = 0;
  unsigned long long shared = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  const int read = std::fscanf(file, "%llu %llu %llu", &total, &resident, &shared);
  std::fclose(file);
  if (read != 3 || resident < shared) return 0;
  return (resident - shared) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace sluice
