#include "bench/load/histogram.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

using load::Histogram;

TEST_CASE("a histogram without values has no quantiles") {
  const Histogram histogram;
  CHECK(histogram.count() == 0);
  CHECK(histogram.quantile(0.5) == 0);
  CHECK(histogram.max() == 0);
}

TEST_CASE("small values are exact, and quantiles are those of the sorted values") {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 1000; ++value) histogram.add(value);
  CHECK(histogram.quantile(0) == 1);
  CHECK(histogram.quantile(0.5) == 500);
  CHECK(histogram.quantile(0.99) == 990);
  CHECK(histogram.quantile(0.999) == 999);
  CHECK(histogram.quantile(1) == 1000);
}

TEST_CASE("one value is kept to three digits, whatever its size") {
  for (std::uint64_t value = 1; value < Histogram::value_max / 3; value = value * 3 + 1) {
    Histogram histogram;
    histogram.add(value);
    histogram.add(value * 2);
    const std::uint64_t told = histogram.quantile(0.5);
    CHECK(told >= value);
    CHECK(told - value <= value / 1000);
    CHECK(histogram.max() == value * 2);
  }
}

TEST_CASE("quantiles of many values are within a thousandth of the exact ones") {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> times(12, 2);
  Histogram histogram;
  std::vector<std::uint64_t> values(100'000);
  for (std::uint64_t& value : values) {
    value = static_cast<std::uint64_t>(times(random));
    histogram.add(value);
  }
  std::ranges::sort(values);
  for (const double part : {0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto place = static_cast<std::size_t>(part * static_cast<double>(values.size())) - 1;
    CHECK(histogram.quantile(part) >= values[place]);
    CHECK(histogram.quantile(part) - values[place] <= values[place] / 1000);
  }
}

TEST_CASE("what is above the largest value is counted, and its maximum kept") {
  Histogram histogram;
  histogram.add(UINT64_MAX);
  CHECK(histogram.count() == 1);
  CHECK(histogram.max() == UINT64_MAX);
  CHECK(histogram.quantile(0.5) == Histogram::value_max);
  histogram.clear();
  CHECK(histogram.count() == 0);
}
