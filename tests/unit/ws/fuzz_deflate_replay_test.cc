#define LLVMFuzzerTestOneInput fuzz_deflate_target
#include "fuzz/fuzz_deflate.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_deflate") {
  sluice::test::replay_corpus(fuzz_deflate_target, "deflate");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_deflate") {
  sluice::test::replay_mutations(fuzz_deflate_target, "deflate");
}

}  // namespace
