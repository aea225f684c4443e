#define LLVMFuzzerTestOneInput fuzz_tokens_target
#include "fuzz/fuzz_tokens.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_tokens") {
  sluice::test::replay_corpus(fuzz_tokens_target, "tokens");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_tokens") {
  sluice::test::replay_mutations(fuzz_tokens_target, "tokens");
}

}  // namespace
