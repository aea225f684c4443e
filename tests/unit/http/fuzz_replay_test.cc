// The fuzz target over its corpus, and over mutations of it: a smoke test for machines without a
// fuzzer.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <random>
#include <vector>

#include "fuzz/fuzz_http.cc"

namespace {

std::vector<std::string> corpus() {
  std::vector<std::string> inputs;
  for (const auto& entry :
       std::filesystem::directory_iterator(SLUICE_SOURCE_DIR "/tests/fuzz/corpus/http")) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(as_bytes(input).data(), input.size());
}

TEST_CASE("the corpus keeps the invariants of the fuzz target") {
  const std::vector<std::string> inputs = corpus();
  CHECK(inputs.size() >= 10);
  for (const std::string& input : inputs) run(input);
}

TEST_CASE("mutations of the corpus keep the invariants of the fuzz target") {
  const std::vector<std::string> inputs = corpus();
  std::minstd_rand random(1);
  constexpr std::string_view alphabet(
      "\r\n \t:;,/\\%.?#*\0\x7f\x80"
      "aA0=",
      22);
  for (int round = 0; round < 4000; ++round) {
    std::string input = inputs[random() % inputs.size()];
    for (auto edits = 1 + random() % 3; edits > 0 && !input.empty(); --edits) {
      const std::size_t at = random() % input.size();
      if (random() % 3 == 0) {
        input.erase(at, 1 + random() % 4);
      } else {
        input.insert(at, 1, alphabet[random() % alphabet.size()]);
      }
    }
    run(input);
  }
  CHECK(true);
}

}  // namespace
