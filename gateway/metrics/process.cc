#include "metrics/process.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

namespace sluice::metrics {
namespace {

double cpu_seconds() {
  timespec used{};
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) != 0) return 0;
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

std::uint64_t count_fds_one_by_one() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  std::uint64_t count = 0;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(folder);
  return count > 0 ? count - 1 : 0;  // the folder's own descriptor was among them
}

std::uint64_t open_fds() {
  // Since Linux 6.2 the folder's size is the number of its entries: no walk through 100,000 names.
  struct stat folder {};
  if (stat("/proc/self/fd", &folder) == 0 && folder.st_size > 0) {
    return static_cast<std::uint64_t>(folder.st_size);
  }
  return count_fds_one_by_one();
}

std::uint64_t max_fds() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

void read_memory(ProcessFigures& figures) {
  std::uint64_t virtual_pages = 0;
  std::uint64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> virtual_pages >> resident_pages;
  const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  figures.virtual_bytes = virtual_pages * page_bytes;
  figures.resident_bytes = resident_pages * page_bytes;
}

// Seconds since the epoch at which the machine started: the line "btime" of /proc/stat.
double boot_time_seconds() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

// proc(5): /proc/self/stat is one line; field 20 is the number of threads and field 22 the start
// time in clock ticks after boot.
void read_stat(ProcessFigures& figures) {
  std::string line;
  std::getline(std::ifstream("/proc/self/stat"), line);
  // Field 2, the program's name, may hold spaces and brackets: count from the last bracket on.
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 20; ++field) fields >> skipped;
  double start_ticks = 0;
  fields >> figures.threads >> skipped >> start_ticks;
  static const double boot_seconds = boot_time_seconds();
  figures.start_time_seconds =
      boot_seconds + start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

ProcessFigures read_process() {
  ProcessFigures figures;
  figures.cpu_seconds = cpu_seconds();
  figures.open_fds = open_fds();
  figures.max_fds = max_fds();
  read_memory(figures);
  read_stat(figures);
  return figures;
}

}  // namespace sluice::metrics
