#define LLVMFuzzerTestOneInput fuzz_response_target
#include "fuzz/fuzz_response.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_response") {
  sluice::test::replay_corpus(fuzz_response_target, "response");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_response") {
  sluice::test::replay_mutations(fuzz_response_target, "response");
}

}  // namespace
