#include "base/cores.h"

#include <sched.h>

#include <algorithm>

#include "base/cgroup.h"

namespace sluice {

std::uint32_t available_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  double cores = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
  const double quota = cgroup_limits().cores;
  if (quota > 0) cores = std::min(cores, quota);
  const auto whole = static_cast<std::uint32_t>(cores);
  return std::max(1u, whole < cores ? whole + 1 : whole);
}

}  // namespace sluice
