#define LLVMFuzzerTestOneInput fuzz_path_target
#include "fuzz/fuzz_path.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_path") {
  sluice::test::replay_corpus(fuzz_path_target, "path");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_path") {
  sluice::test::replay_mutations(fuzz_path_target, "path");
}

}  // namespace
