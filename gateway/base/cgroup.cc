#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

namespace sluice {
namespace {

namespace fs = std::filesystem;

// "268435456"; 0 for "max", and if there is no such file.
std::uint64_t bytes_in(const fs::path& file) {
  std::uint64_t bytes = 0;
  return std::ifstream(file) >> bytes ? bytes : 0;
}

// The cores of so many microseconds in a period; 0 for none, which v1 writes as -1.
double cores_of(double quota, double period) {
  return quota > 0 && period > 0 ? quota / period : 0;
}

// "150000 100000"; 0 for "max 100000", and if there is no such file.
double cores_in(const fs::path& file) {
  double quota = 0;
  double period = 0;
  return std::ifstream(file) >> quota >> period ? cores_of(quota, period) : 0;
}

double cores_v1(const fs::path& folder) {
  double quota = 0;
  double period = 0;
  std::ifstream(folder / "cpu.cfs_quota_us") >> quota;
  std::ifstream(folder / "cpu.cfs_period_us") >> period;
  return cores_of(quota, period);
}

template <typename Number>
void lower(Number& limit, Number other) {
  if (other > 0 && (limit == 0 || other < limit)) limit = other;
}

void lower(CgroupLimits& limits, const fs::path& folder) {
  lower(limits.cores, cores_in(folder / "cpu.max"));
  lower(limits.memory_bytes, bytes_in(folder / "memory.max"));
}

// "system.slice/sluice.service" of "0::/system.slice/sluice.service", the line of v2. Empty for the
// root, and for a group that is not under the root that we see ("/../other").
fs::path group_in(std::string_view groups) {
  constexpr std::string_view v2 = "0::/";
  while (!groups.empty()) {
    const std::string_view line = groups.substr(0, groups.find('\n'));
    groups.remove_prefix(std::min(line.size() + 1, groups.size()));
    if (!line.starts_with(v2)) continue;
    const std::string_view group = line.substr(v2.size());
    return group.starts_with("..") ? fs::path() : fs::path(group);
  }
  return {};
}

}  // namespace

CgroupLimits cgroup_limits(std::string_view groups, const fs::path& root) {
  CgroupLimits limits;
  fs::path folder = root;
  lower(limits, folder);
  for (const fs::path& name : group_in(groups)) {
    folder /= name;
    lower(limits, folder);
  }
  lower(limits.cores, cores_v1(root / "cpu"));
  lower(limits.memory_bytes, bytes_in(root / "memory/memory.limit_in_bytes"));
  return limits;
}

CgroupLimits cgroup_limits() {
  std::ifstream file("/proc/self/cgroup");
  const std::string groups(std::istreambuf_iterator<char>(file), {});
  return cgroup_limits(groups, "/sys/fs/cgroup");
}

}  // namespace sluice
