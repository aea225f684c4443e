#include "base/units.h"

#include <charconv>
#include <limits>
#include <span>

namespace sluice {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::uint64_t kib = 1024;
constexpr Unit size_units[] = {
    {"B", 1},
    {"KiB", kib},
    {"MiB", kib* kib},
    {"GiB", kib* kib* kib},
    {"TiB", kib* kib* kib* kib},
    {"KB", 1'000},
    {"MB", 1'000'000},
    {"GB", 1'000'000'000},
    {"TB", 1'000'000'000'000},
};
constexpr std::size_t binary_units = 5;  // of size_units: those that format_size() writes

constexpr Unit duration_units[] = {
    {"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 24 * 3'600'000},
};

// What a person should have written, for the errors.
struct Kind {
  std::string_view example;
  std::span<const Unit> units;
  bool number_alone;
};

constexpr Kind size_kind{"a size such as 64KiB", size_units, true};
constexpr Kind duration_kind{"a duration such as 30s", duration_units, false};

std::string names(std::span<const Unit> units) {
  std::string all;
  for (const Unit& unit : units) {
    if (!all.empty()) all += ", ";
    all += unit.name;
  }
  return all;
}

Result<std::uint64_t> factor_of(std::string_view unit, std::uint64_t number, const Kind& kind) {
  if (unit.empty()) {
    if (kind.number_alone || number == 0) return 1;
    return fail("a unit is missing: write " + std::to_string(number) + "s or " +
                std::to_string(number) + "ms");
  }
  for (const Unit& known : kind.units) {
    if (known.name == unit) return known.factor;
  }
  return fail("expected " + std::string(kind.example) + " (a whole number and one of " +
              names(kind.units) + ")");
}

Result<std::uint64_t> parse(std::string_view text, const Kind& kind) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [unit, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc::result_out_of_range) return fail(std::string(number_too_large));
  if (error != std::errc{}) return fail("expected " + std::string(kind.example));
  const auto rest = text.substr(static_cast<std::size_t>(unit - text.data()));
  auto factor = factor_of(rest, number, kind);
  if (!factor) return factor;
  if (number > std::numeric_limits<std::uint64_t>::max() / *factor) {
    return fail(std::string(number_too_large));
  }
  return number * *factor;
}

std::string format(std::uint64_t value, std::span<const Unit> units) {
  if (value == 0) return "0";
  std::size_t i = units.size() - 1;
  while (value % units[i].factor != 0) --i;  // units[0].factor is 1
  return std::to_string(value / units[i].factor) + std::string(units[i].name);
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  return parse(text, size_kind);
}

Result<std::uint64_t> parse_duration(std::string_view text) {
  return parse(text, duration_kind);
}

std::string format_size(std::uint64_t bytes) {
  return format(bytes, std::span(size_units).first(binary_units));
}

std::string format_duration(std::uint64_t ms) {
  return format(ms, duration_units);
}

}  // namespace sluice
