// A stream of frames from a peer, in either role: see ws_stream.h for what must hold.
#include <cstdio>
#include <cstdlib>

#include "fuzz/ws_stream.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string broken = sluice::ws::test::broken_invariant({data, size});
  if (broken.empty()) return 0;
  std::fprintf(stderr, "%s\n", broken.c_str());
  std::abort();
}
