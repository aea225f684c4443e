#define LLVMFuzzerTestOneInput fuzz_http_target
#include "support/fuzz_replay.h"

#include "fuzz/fuzz_http.cc"

namespace {

TEST_CASE("the corpus keeps the invariants of fuzz_http") {
  sluice::test::replay_corpus(fuzz_http_target, "http");
}

TEST_CASE("mutations of the corpus keep the invariants of fuzz_http") {
  sluice::test::replay_mutations(fuzz_http_target, "http");
}

}  // namespace
