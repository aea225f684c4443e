#include "metrics/process.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <thread>

namespace sluice::metrics {

TEST_CASE("the process's figures are plausible") {
  const ProcessFigures figures = read_process();
  CHECK(figures.cpu_seconds > 0);
  CHECK(figures.cpu_seconds < 3600);
  CHECK(figures.resident_bytes > 500'000);
  CHECK(figures.virtual_bytes > figures.resident_bytes);
  CHECK(figures.open_fds >= 3);
  CHECK(figures.max_fds == static_cast<std::uint64_t>(sysconf(_SC_OPEN_MAX)));
  const auto now = static_cast<double>(std::time(nullptr));
  CHECK(figures.start_time_seconds > now - 3600);
  CHECK(figures.start_time_seconds < now + 5);
}

TEST_CASE("open descriptors are counted one for one") {
  const std::uint64_t before = read_process().open_fds;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK(read_process().open_fds == before + 2);
  close(ends[0]);
  close(ends[1]);
  CHECK(read_process().open_fds == before);
}

TEST_CASE("threads are counted") {
  const std::uint64_t before = read_process().threads;
  std::atomic<bool> stop{false};
  std::thread thread([&stop] {
    while (!stop) std::this_thread::yield();
  });
  CHECK(read_process().threads == before + 1);
  stop = true;
  thread.join();
}

TEST_CASE("CPU time does not go back") {
  const double before = read_process().cpu_seconds;
  volatile unsigned work = 0;
  for (unsigned i = 0; i < 10'000'000; ++i) work = work + i;
  CHECK(read_process().cpu_seconds > before);
}

}  // namespace sluice::metrics
