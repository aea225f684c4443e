// How many cores this process may use.
#pragma once

#include <cstdint>

namespace sluice {

// What the affinity mask and the CPU quotas of the cgroups leave, rounded up; at least 1.
std::uint32_t available_cores();

}  // namespace sluice
