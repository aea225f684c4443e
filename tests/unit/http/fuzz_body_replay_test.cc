#define LLVMFuzzerTestOneInput fuzz_body_target
#include "fuzz/fuzz_body.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_body") {
  sluice::test::replay_corpus(fuzz_body_target, "body");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_body") {
  sluice::test::replay_mutations(fuzz_body_target, "body");
}

}  // namespace
