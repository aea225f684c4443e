#define LLVMFuzzerTestOneInput fuzz_close_target
#include "fuzz/fuzz_close.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_close") {
  sluice::test::replay_corpus(fuzz_close_target, "close");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_close") {
  sluice::test::replay_mutations(fuzz_close_target, "close");
}

}  // namespace
