#define LLVMFuzzerTestOneInput fuzz_grip_target
#include "fuzz/fuzz_grip.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_grip") {
  sluice::test::replay_corpus(fuzz_grip_target, "grip");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_grip") {
  sluice::test::replay_mutations(fuzz_grip_target, "grip");
}

}  // namespace
