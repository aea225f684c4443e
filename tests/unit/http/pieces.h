// One input, cut into pieces in different ways: one outcome.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

using Pieces = std::vector<std::string_view>;

// `next_size` says how long the next piece is; at least 1.
template <typename NextSize>
Pieces cut(std::string_view input, NextSize next_size) {
  Pieces pieces;
  while (!input.empty()) {
    const std::size_t size = std::min<std::size_t>(next_size(), input.size());
    pieces.push_back(input.substr(0, size));
    input.remove_prefix(size);
  }
  return pieces;
}

// What `run` says about the input as a whole, in the words of a string; the same about it byte by
// byte and in random pieces.
template <typename Run>
std::string run_in_pieces(std::string_view input, Run run) {
  const std::string whole = run(cut(input, [&] { return input.size(); }));
  CHECK(run(cut(input, [] { return std::size_t{1}; })) == whole);
  std::minstd_rand random(static_cast<unsigned>(input.size()));
  for (int round = 0; round < 10; ++round) {
    CHECK(run(cut(input, [&] { return std::size_t{1} + random() % 9; })) == whole);
  }
  return whole;
}

}  // namespace sluice::http
