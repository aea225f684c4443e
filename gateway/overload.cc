#include "overload.h"

#include <malloc.h>

#include <utility>

#include "base/log.h"
#include "base/memory.h"

namespace sluice {
namespace {

constexpr std::uint64_t look_ms = 250;

// Percent of the budget, by level.
constexpr std::uint64_t enter_percent[] = {0, 85, 90, 95};
constexpr std::uint64_t hysteresis_percent = 5;
constexpr std::uint64_t evict_down_to_percent = 90;

constexpr const char* names[] = {"none", "refuse", "shrink", "evict"};

}  // namespace

OverloadLevel next_level(OverloadLevel before, std::uint64_t used_bytes,
                         std::uint64_t budget_bytes) {
  auto level = OverloadLevel::none;
  for (const auto step : {OverloadLevel::refuse, OverloadLevel::shrink, OverloadLevel::evict}) {
    std::uint64_t percent = enter_percent[static_cast<std::size_t>(step)];
    if (before >= step) percent -= hysteresis_percent;
    if (used_bytes >= budget_bytes / 100 * percent) level = step;
  }
  return level;
}

Overload::Overload(uv::Loop& loop, std::uint64_t budget_bytes, std::atomic<OverloadLevel>& level,
                   metrics::MemoryCounters& counters, Steps steps)
    : budget_bytes_(budget_bytes),
      level_(level),
      counters_(counters),
      steps_(std::move(steps)),
      timer_(loop, [this] { look(); }) {
  counters_.budget_bytes.set(budget_bytes);
}

void Overload::start() {
  if (budget_bytes_ != 0) timer_.start(look_ms, look_ms);
}

void Overload::look() {
  const OverloadLevel before = level_.load(std::memory_order_relaxed);
  // What the workers have freed since the last look is the system's again before it is counted:
  // otherwise too many would be dropped.
  if (before >= OverloadLevel::shrink) malloc_trim(0);
  const std::uint64_t used = anonymous_memory();
  if (used == 0) return;  // without a descriptor nobody knows: what holds, holds on
  const OverloadLevel level = next_level(before, used, budget_bytes_);
  if (level != before) report(before, level, used);
  level_.store(level, std::memory_order_relaxed);
  counters_.overload_level.set(static_cast<std::uint64_t>(level));
  if (level >= OverloadLevel::shrink && level > before) {
    counters_.shrinks.add();
    steps_.shrink();
  }
  if (level == OverloadLevel::evict) {
    steps_.evict(used - budget_bytes_ / 100 * evict_down_to_percent);
  }
}

void Overload::report(OverloadLevel before, OverloadLevel now, std::uint64_t used_bytes) const {
  const log::Fields fields = {{"level", names[static_cast<std::size_t>(now)]},
                              {"before", names[static_cast<std::size_t>(before)]},
                              {"used_bytes", used_bytes},
                              {"budget_bytes", budget_bytes_}};
  if (now > before) {
    log::warning("overload", fields);
  } else {
    log::info("overload", fields);
  }
}

}  // namespace sluice
