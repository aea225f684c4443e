// A fuzz target over its corpus, and over mutations of it: a smoke test for machines without a
// fuzzer. Include after the target itself; each target in a file of its own.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::test {

using FuzzTarget = int (*)(const std::uint8_t* bytes, std::size_t size);

inline std::vector<std::string> fuzz_corpus(const std::string& name) {
  std::vector<std::string> inputs;
  for (const auto& entry :
       std::filesystem::directory_iterator(SLUICE_SOURCE_DIR "/tests/fuzz/corpus/" + name)) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

inline void run_target(FuzzTarget target, const std::string& input) {
  target(as_bytes(input).data(), input.size());
}

inline void replay_corpus(FuzzTarget target, const std::string& name) {
  const std::vector<std::string> inputs = fuzz_corpus(name);
  CHECK(inputs.size() >= 10);
  for (const std::string& input : inputs) run_target(target, input);
}

inline void replay_mutations(FuzzTarget target, const std::string& name, int rounds = 4000) {
  const std::vector<std::string> inputs = fuzz_corpus(name);
  std::minstd_rand random(1);
  constexpr std::string_view alphabet(
      "\r\n \t:;,/\\%.?#*\0\x7f\x80"
      "aA0=",
      22);
  for (int round = 0; round < rounds; ++round) {
    std::string input = inputs[random() % inputs.size()];
    for (auto edits = 1 + random() % 3; edits > 0 && !input.empty(); --edits) {
      const std::size_t at = random() % input.size();
      if (random() % 3 == 0) {
        input.erase(at, 1 + random() % 4);
      } else {
        input.insert(at, 1, alphabet[random() % alphabet.size()]);
      }
    }
    run_target(target, input);
  }
  CHECK(true);
}

}  // namespace sluice::test
