#define LLVMFuzzerTestOneInput fuzz_config_target
#include "fuzz/fuzz_config.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_config") {
  sluice::test::replay_corpus(fuzz_config_target, "config");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_config") {
  sluice::test::replay_mutations(fuzz_config_target, "config", 1000);  // the slow one
}

}  // namespace
