#include "base/units.h"

#include <doctest/doctest.h>

#include <limits>

using sluice::format_duration;
using sluice::format_size;
using sluice::parse_duration;
using sluice::parse_size;

namespace {

constexpr std::uint64_t max64 = std::numeric_limits<std::uint64_t>::max();

std::string size_error(std::string_view text) {
  const auto size = parse_size(text);
  return size ? "read as " + std::to_string(*size) : size.error().message;
}

std::string duration_error(std::string_view text) {
  const auto duration = parse_duration(text);
  return duration ? "read as " + std::to_string(*duration) : duration.error().message;
}

}  // namespace

TEST_CASE("a size is a whole number and a unit, or bytes") {
  CHECK(parse_size("0").value() == 0);
  CHECK(parse_size("512").value() == 512);
  CHECK(parse_size("512B").value() == 512);
  CHECK(parse_size("64KiB").value() == 64 * 1024);
  CHECK(parse_size("1MiB").value() == 1024 * 1024);
  CHECK(parse_size("1GiB").value() == 1024 * 1024 * 1024);
  CHECK(parse_size("2TiB").value() == 2ull << 40);
  CHECK(parse_size("64KB").value() == 64'000);
  CHECK(parse_size("1MB").value() == 1'000'000);
  CHECK(parse_size("3GB").value() == 3'000'000'000);
  CHECK(parse_size("18446744073709551615").value() == max64);
}

TEST_CASE("a size that does not fit in 64 bits is an error and does not wrap") {
  CHECK(size_error("18446744073709551616") == "the number is too large");
  CHECK(size_error("16777216TiB") == "the number is too large");
  CHECK(size_error("16777215TiB") == "read as 18446742974197923840");
  CHECK(size_error("18014398509481984KiB") == "the number is too large");
}

TEST_CASE("what is not a size says how one looks") {
  for (const char* text : {"", "KiB", "-1", "+1", " 1", "\xc3\xa9", ".5MiB"}) {
    CAPTURE(text);
    CHECK(size_error(text) == "expected a size such as 64KiB");
  }
  for (const char* text : {"1 KiB", "0x10", "1kib", "1K", "1.5MiB", "1KiBs", "1KiB ", "10s"}) {
    CAPTURE(text);
    CHECK(size_error(text) ==
          "expected a size such as 64KiB (a whole number and one of "
          "B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)");
  }
}

TEST_CASE("a duration is a whole number and a unit") {
  CHECK(parse_duration("500ms").value() == 500);
  CHECK(parse_duration("30s").value() == 30'000);
  CHECK(parse_duration("5m").value() == 300'000);
  CHECK(parse_duration("1h").value() == 3'600'000);
  CHECK(parse_duration("1d").value() == 86'400'000);
  CHECK(parse_duration("0").value() == 0);
  CHECK(parse_duration("0s").value() == 0);
}

TEST_CASE("a duration without a unit is an error that says so") {
  CHECK(duration_error("30") == "a unit is missing: write 30s or 30ms");
  CHECK(duration_error("30 s") ==
        "expected a duration such as 30s (a whole number and one of ms, s, m, h, d)");
  CHECK(duration_error("1w") ==
        "expected a duration such as 30s (a whole number and one of ms, s, m, h, d)");
  CHECK(duration_error("soon") == "expected a duration such as 30s");
  CHECK(duration_error("99999999999999999999s") == "the number is too large");
  CHECK(duration_error("999999999999d") == "the number is too large");
}

TEST_CASE("sizes and durations are written so that they read back the same") {
  CHECK(format_size(0) == "0");
  CHECK(format_size(1) == "1B");
  CHECK(format_size(1000) == "1000B");
  CHECK(format_size(256 * 1024) == "256KiB");
  CHECK(format_size(1536 * 1024) == "1536KiB");
  CHECK(format_size(4ull << 30) == "4GiB");
  CHECK(format_duration(0) == "0");
  CHECK(format_duration(1500) == "1500ms");
  CHECK(format_duration(90'000) == "90s");
  CHECK(format_duration(86'400'000) == "1d");
  for (const std::uint64_t value : {0ull, 1ull, 1000ull, 1024ull, 60'000ull, 1ull << 50}) {
    CHECK(parse_size(format_size(value)).value() == value);
    CHECK(parse_duration(format_duration(value)).value() == value);
  }
  CHECK(parse_size(format_size(max64)).value() == max64);
}
