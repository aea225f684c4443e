// Times with three digits in a fixed amount of memory, in the manner of HdrHistogram: counts of
// values whose buckets grow with them. Values below 2048 ns have a bucket each; above, each power
// of two is divided into 1024, so that a bucket is at most a thousandth of its values wide.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace load {

class Histogram {
 public:
  static constexpr std::uint64_t value_max = (std::uint64_t{1} << 40) - 1;  // 18 minutes

  // What is above the largest is counted as the largest.
  void add(std::uint64_t ns) {
    ++(*counts_)[index_of(std::min(ns, value_max))];
    ++count_;
    max_ = std::max(max_, ns);
  }

  void clear() {
    counts_->fill(0);
    count_ = max_ = 0;
  }

  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }

  // The least value that is not smaller than this part of all; rounded up to the end of its bucket,
  // never above max(). 0 if there are none.
  std::uint64_t quantile(double part) const {
    const auto wanted = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(count_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_->size(); ++i) {
      seen += (*counts_)[i];
      if (seen > 0 && seen >= wanted) return std::min(last_of(i), max_);
    }
    return max_;
  }

 private:
  static constexpr int exact_bits = 11;
  static constexpr std::size_t exact = std::size_t{1} << exact_bits;
  static constexpr std::size_t half = exact / 2;
  static constexpr std::size_t buckets = exact + (40 - exact_bits) * half;

  static std::size_t index_of(std::uint64_t value) {
    if (value < exact) return static_cast<std::size_t>(value);
    const int shift = static_cast<int>(std::bit_width(value)) - exact_bits;
    return static_cast<std::size_t>(shift) * half + static_cast<std::size_t>(value >> shift);
  }

  static std::uint64_t last_of(std::size_t index) {
    if (index < exact) return index;
    const std::size_t shift = index / half - 1;
    return ((std::uint64_t{index - shift * half} + 1) << shift) - 1;
  }

  using Counts = std::array<std::uint64_t, buckets>;
  std::unique_ptr<Counts> counts_ = std::make_unique<Counts>();
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace load
