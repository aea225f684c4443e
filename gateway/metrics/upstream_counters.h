// What is counted of upstreams. Written by any worker, read by a scrape: atomics with several
// writers, which connecting can afford.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::metrics {

// Why no connection to an endpoint came about: the label `reason` of
// sluice_upstream_connect_failures_total.
enum class ConnectFailure : std::uint8_t {
  refused,      // 502
  unreachable,  // 502
  reset,        // 502
  timeout,      // 504
  tls,          // 502
  unresolved,   // 502: the name has no address
  no_endpoint,  // 503: none is left to try
  full,         // 503: max_connections
  descriptors,  // 503: we have none left, or no port, which is no endpoint's fault
  count,
};
inline constexpr std::size_t connect_failure_count =
    static_cast<std::size_t>(ConnectFailure::count);
const char* label(ConnectFailure failure);

inline constexpr std::array<std::uint64_t, 10> connect_bounds_us = {
    250, 500, 1'000, 2'500, 5'000, 10'000, 50'000, 250'000, 1'000'000, 5'000'000};

class SharedNumber {
 public:
  void add(std::uint64_t value = 1) { value_.fetch_add(value, std::memory_order_relaxed); }
  void subtract(std::uint64_t value = 1) { value_.fetch_sub(value, std::memory_order_relaxed); }
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

struct EndpointCounters {
  SharedNumber active;  // connections in use, those being made included
  SharedNumber connects;
  SharedNumber up{};  // 0 or 1
  std::array<SharedNumber, connect_failure_count> failures;
};

struct UpstreamCounters {
  std::array<SharedNumber, connect_failure_count> failures;  // without an endpoint
  SharedNumber ejections_connect, ejections_health;
  SharedNumber retries;
  std::array<SharedNumber, connect_bounds_us.size() + 1> connect_buckets;
  SharedNumber connect_us_sum;
  SharedNumber requests, request_failures, reused;  // HTTP requests; over a kept connection
  SharedNumber handshake_invalid;                   // a 101 that was none
};

// What a scrape reads of one upstream. Nothing here is null, and all of it outlives the scrape.
struct UpstreamSource {
  struct Endpoint {
    std::string name;
    const EndpointCounters* counters;
  };

  std::string name;
  const UpstreamCounters* counters;
  std::vector<Endpoint> endpoints;
};

}  // namespace sluice::metrics
