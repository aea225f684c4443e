#include "base/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/cgroup.h"

namespace sluice {
namespace {

// 0 if it is not known.
std::uint64_t machine_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return 0;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes);
}

}  // namespace

std::uint64_t available_memory() {
  const std::uint64_t machine = machine_memory();
  const std::uint64_t limit = cgroup_limits().memory_bytes;
  return limit == 0 || machine == 0 ? std::max(limit, machine) : std::min(limit, machine);
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
