#define LLVMFuzzerTestOneInput fuzz_gateway_target
#include "fuzz/fuzz_gateway.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_gateway") {
  sluice::test::replay_corpus(fuzz_gateway_target, "gateway");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_gateway") {
  sluice::test::replay_mutations(fuzz_gateway_target, "gateway");
}

}  // namespace
