// Memory as the kernel counts it, for this process.
#pragma once

#include <cstdint>

namespace sluice {

// What the process may have: the smallest limit of its cgroups, or the memory of the machine if
// there is none or a larger one. 0 if neither is known.
std::uint64_t available_memory();

// What it has and nobody else can be given: pages in RAM that are not a file's. Any thread; reads
// one line of /proc. 0 if that cannot be read.
std::uint64_t anonymous_memory();

}  // namespace sluice
