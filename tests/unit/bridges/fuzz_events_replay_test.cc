#define LLVMFuzzerTestOneInput fuzz_events_target
#include "fuzz/fuzz_events.cc"
#include "support/fuzz_replay.h"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_events") {
  sluice::test::replay_corpus(fuzz_events_target, "events");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_events") {
  sluice::test::replay_mutations(fuzz_events_target, "events");
}

}  // namespace
