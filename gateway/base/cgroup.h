// What the control groups that a process is in leave to it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace sluice {

struct CgroupLimits {
  double cores = 0;  // 0: no limit
  std::uint64_t memory_bytes = 0;
};

// The smallest limits of the process's group and of all groups around it. `groups` is the text of
// /proc/self/cgroup, `root` is where the groups are mounted. Of cgroup v1 only the root is looked
// at, which in a container is the container's group.
CgroupLimits cgroup_limits(std::string_view groups, const std::filesystem::path& root);

// Those of this process.
CgroupLimits cgroup_limits();

}  // namespace sluice
