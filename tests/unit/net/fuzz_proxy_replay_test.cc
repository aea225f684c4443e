#define LLVMFuzzerTestOneInput fuzz_proxy_target
#include "fuzz/fuzz_proxy.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_proxy") {
  sluice::test::replay_corpus(fuzz_proxy_target, "proxy");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_proxy") {
  sluice::test::replay_mutations(fuzz_proxy_target, "proxy");
}

}  // namespace
