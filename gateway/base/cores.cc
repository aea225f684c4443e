#include "base/cores.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace sluice {
namespace {

// "150000 100000": microseconds of CPU in a period; "max 100000": no limit. 0: no limit known.
double quota_v2() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::atof(quota.c_str()) / period;
}

double quota_v1() {
  double quota = 0;
  double period = 0;
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

}  // namespace

std::uint32_t available_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  double cores = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
  for (const double quota : {quota_v2(), quota_v1()}) {
    if (quota > 0) cores = std::min(cores, quota);
  }
  const auto whole = static_cast<std::uint32_t>(cores);
  return std::max(1u, whole < cores ? whole + 1 : whole);
}

}  // namespace sluice
