// The load generator of script/bench: many clients on one thread and one epoll. options.cc says
// what it can do, and modes.h what it prints.
#include <sys/resource.h>
#include <unistd.h>

#include "modes.h"

namespace {

// As many descriptors as the process may have.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void run(const load::Options& options) {
  switch (options.mode) {
    case load::Mode::echo:
      return run_echo(options);
    case load::Mode::idle:
      return run_idle(options);
    case load::Mode::handshakes:
      return run_handshakes(options);
    case load::Mode::subscribers:
      return run_subscribers(options);
    case load::Mode::reconnect:
      return run_reconnect(options);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const load::Options options = load::parse_options(argc, argv);
  ::alarm(options.limit_seconds);
  raise_descriptor_limit();
  run(options);
  return 0;
}
