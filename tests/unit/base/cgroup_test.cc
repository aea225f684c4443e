#include "base/cgroup.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "support/files.h"

using namespace sluice;

namespace {

// A folder like /sys/fs/cgroup.
class Groups {
 public:
  Groups() {
    std::string name = std::filesystem::temp_directory_path() / "sluice-cgroup-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    root_ = name;
  }
  ~Groups() { std::filesystem::remove_all(root_); }
  Groups(const Groups&) = delete;

  void set(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = root_ / file;
    std::filesystem::create_directories(path.parent_path());
    test::write_text(path, text);
  }
  CgroupLimits limits(std::string_view groups) const { return cgroup_limits(groups, root_); }

 private:
  std::filesystem::path root_;
};

constexpr const char* service = "0::/system.slice/sluice.service\n";

}  // namespace

TEST_CASE("without a file, a line or a number there is no limit") {
  const Groups groups;
  for (const char* text : {"", "\n", "nonsense", "0::/", "0::/nowhere", service}) {
    CHECK(groups.limits(text).cores == 0);
    CHECK(groups.limits(text).memory_bytes == 0);
  }
  groups.set("cpu.max", "max 100000\n");
  groups.set("memory.max", "max\n");
  groups.set("cpu/cpu.cfs_quota_us", "-1\n");
  groups.set("cpu/cpu.cfs_period_us", "100000\n");
  CHECK(groups.limits("0::/\n").cores == 0);
  CHECK(groups.limits("0::/\n").memory_bytes == 0);
}

TEST_CASE("a container sees its own group as the root") {
  const Groups groups;
  groups.set("cpu.max", "150000 100000\n");
  groups.set("memory.max", "268435456\n");
  for (const char* text : {"0::/\n", "", "0::/not/mounted/here\n", "0::/../other\n"}) {
    CHECK(groups.limits(text).cores == 1.5);
    CHECK(groups.limits(text).memory_bytes == 268435456);
  }
}

TEST_CASE("the limits of a systemd unit are those of its own group") {
  const Groups groups;
  groups.set("system.slice/sluice.service/cpu.max", "50000 100000\n");
  groups.set("system.slice/sluice.service/memory.max", "1000\n");
  CHECK(groups.limits(service).cores == 0.5);
  CHECK(groups.limits(service).memory_bytes == 1000);
  CHECK(groups.limits("0::/system.slice/other.service\n").cores == 0);
}

TEST_CASE("of the limits of the groups around it the smallest holds") {
  const Groups groups;
  groups.set("system.slice/cpu.max", "200000 100000\n");
  groups.set("system.slice/memory.max", "2000\n");
  groups.set("system.slice/sluice.service/cpu.max", "100000 100000\n");
  groups.set("system.slice/sluice.service/memory.max", "3000\n");
  CHECK(groups.limits(service).cores == 1);
  CHECK(groups.limits(service).memory_bytes == 2000);
}

TEST_CASE("the line of v2 is found among those of v1, of which the root counts") {
  const Groups groups;
  groups.set("system.slice/sluice.service/memory.max", "3000\n");
  groups.set("cpu/cpu.cfs_quota_us", "250000\n");
  groups.set("cpu/cpu.cfs_period_us", "100000\n");
  groups.set("memory/memory.limit_in_bytes", "4000\n");
  const std::string both = std::string("4:memory:/else\n1:cpu:/\n") + service;
  CHECK(groups.limits(both).cores == 2.5);
  CHECK(groups.limits(both).memory_bytes == 3000);
  CHECK(groups.limits("4:memory:/else\n").memory_bytes == 4000);
}
