// Counters: the numbers that a worker keeps while it works.
//
// Every number has one writer, the worker's thread, and any number of readers: relaxed atomics,
// no locked instruction and no lock. A scrape (metrics/collector.h) sums them over the workers on
// its own thread; it costs the workers nothing but the cache lines it looks at.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace sluice::metrics {

// A number with one writer. Reading from another thread is always allowed.
class Number {
 public:
  void add(std::uint64_t amount = 1) { set(get() + amount); }
  void subtract(std::uint64_t amount = 1) { set(get() - amount); }
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Counts of observations under fixed upper bounds; bucket[n] counts those above the last bound.
template <std::size_t n>
struct Histogram {
  std::array<Number, n + 1> buckets;  // not cumulative
  Number sum;                         // in the unit of the bounds

  void observe(const std::array<std::uint64_t, n>& bounds, std::uint64_t value) {
    std::size_t i = 0;
    while (i < n && value > bounds[i]) ++i;
    buckets[i].add();
    sum.add(value);
  }
};

// Who ended a connection.
enum class Initiator : std::uint8_t { client, upstream, gateway, plugin, network, count };

// Why it ended: the closed list behind the label `reason` of sluice_connections_closed_total.
enum class CloseReason : std::uint8_t {
  normal,            // 1000
  going_away,        // 1001 from the client
  application,       // another code that the client or the plugin chose
  protocol_error,    // 1002
  invalid_data,      // 1007
  unsupported_data,  // 1003: a text frame for a route of bytes, or the other way round
  policy,            // a rule of the route other than those below (1008)
  message_too_big,   // 1009
  rate_limited,      // 1008
  message_timeout,   // 1008: a message took too long to arrive
  idle_timeout,      // 1001
  pong_timeout,      // no Close frame can be expected to arrive
  close_timeout,     // the peer did not answer our Close frame
  slow_consumer,     // 1013
  overload,          // 1013: memory is short
  plugin_failed,     // 1011
  upstream_failed,   // 1014
  drain,             // 1001: shutdown
  reset,             // the peer's TCP reset, or another error of the socket
  lost,              // the peer's end of stream without a Close frame
  tls_error,
  count,
};

// How an opening handshake ended: the label `result` of sluice_handshakes_total.
enum class HandshakeResult : std::uint8_t {
  accepted,
  bad_request,           // 400, 414, 421, 431 and everything that is not HTTP
  method_not_allowed,    // 405
  rejected_origin,       // 403
  rejected_version,      // 426
  rejected_subprotocol,  // 400
  rejected_limit,        // 503
  rejected_plugin,       // the plugin's choice
  no_route,              // 404
  upstream_refused,      // the upstream's own answer, other than 101
  upstream_failed,       // 502, 503: no connection, or one that broke
  upstream_invalid,      // 502: its 101 does not follow RFC 6455 4.1
  upstream_timeout,      // 504
  not_websocket,         // 426: a plain request to a WebSocket route
  timeout,               // 408, or 504 when nobody decided in time
  aborted,               // the client went away first
  tls_error,
  draining,  // 503
  count,
};

// A limit that turned something away: the label `limit` of sluice_limit_rejections_total.
enum class Limit : std::uint8_t {
  route_connections,
  process_connections,
  message_size,
  fragments,
  messages_per_second,
  bytes_per_second,
  control_frames,
  buffer,
  compression_memory,
  client_connections,
  memory,
  count,
};

// How a TLS handshake ended: the labels of sluice_tls_handshakes_total.
enum class TlsResult : std::uint8_t { tls1_2, tls1_3, failed, timeout, count };

inline constexpr std::size_t tls_result_count = static_cast<std::size_t>(TlsResult::count);
inline constexpr std::size_t initiator_count = static_cast<std::size_t>(Initiator::count);
inline constexpr std::size_t close_reason_count = static_cast<std::size_t>(CloseReason::count);
inline constexpr std::size_t handshake_result_count =
    static_cast<std::size_t>(HandshakeResult::count);
inline constexpr std::size_t limit_count = static_cast<std::size_t>(Limit::count);

// "client", "protocol_error", "accepted": the labels' values.
const char* label(Initiator initiator);
const char* label(CloseReason reason);
const char* label(HandshakeResult result);
const char* label(Limit limit);

// Directions as the labels name them. A plugin counts as the upstream.
enum Direction : std::size_t { client_to_upstream = 0, upstream_to_client = 1 };
inline constexpr std::size_t direction_count = 2;

// Upper bounds of the histograms.
inline constexpr std::array<std::uint64_t, 10> message_size_bounds = {
    16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 16777216};
inline constexpr std::array<std::uint64_t, 12> ping_rtt_bounds_us = {
    250, 500, 1'000, 2'500, 5'000, 10'000, 25'000, 50'000, 100'000, 250'000, 1'000'000, 5'000'000};
inline constexpr std::array<std::uint64_t, 10> handshake_bounds_us = {
    100, 250, 500, 1'000, 2'500, 10'000, 50'000, 250'000, 1'000'000, 10'000'000};
inline constexpr std::array<std::uint64_t, 11> duration_bounds_ms = {
    1'000,         10'000,         60'000,         300'000,        900'000,        3'600'000,
    4 * 3'600'000, 12 * 3'600'000, 24 * 3'600'000, 72 * 3'600'000, 168 * 3'600'000};
inline constexpr std::array<std::uint64_t, 8> buffered_bounds = {
    0, 1024, 16384, 65536, 262144, 1048576, 4194304, 16777216};
inline constexpr std::array<std::uint64_t, 9> loop_lag_bounds_us = {
    100, 500, 1'000, 5'000, 10'000, 50'000, 100'000, 500'000, 1'000'000};

// Close codes as a label: the codes of RFC 6455 7.4.1 by themselves, the rest by their thousand.
inline constexpr std::size_t close_code_count = 19;
// 1000..1015 -> 0..15, 3000..3999 -> 16, 4000..4999 -> 17, what no endpoint may send -> 18.
std::size_t close_code_index(std::uint16_t code);
const char* close_code_label(std::size_t index);  // "1000", "3xxx", "other"

struct TrafficCounters {
  Number text_messages, binary_messages;
  Number text_frames, binary_frames, continuation_frames, close_frames, ping_frames, pong_frames;
  Number payload_bytes;  // of data frames, without headers
  Number wire_bytes;     // frames whole, without TLS
  std::array<Number, close_code_count> close_codes;
  Histogram<message_size_bounds.size()> message_size;
};

// The statuses of plain responses as a label: 2xx to 5xx, and the rest, which is no final status.
inline constexpr std::array<const char*, 5> status_classes = {"2xx", "3xx", "4xx", "5xx", "other"};
constexpr std::size_t status_class(int status) {
  return status >= 200 && status <= 599 ? static_cast<std::size_t>(status / 100 - 2) : 4;
}

// Of one route on one worker.
struct RouteCounters {
  Number connections_opened;
  std::array<Number, 2> connections_active;  // without TLS, with TLS
  std::array<std::array<Number, close_reason_count>, initiator_count> connections_closed;
  std::array<Number, handshake_result_count> handshakes;
  std::array<Number, status_classes.size()> http_responses;  // of plain requests that had a route
  std::array<TrafficCounters, direction_count> traffic;
  // Messages that were compressed between client and gateway: what they are, what they were on the
  // wire.
  std::array<Number, direction_count> compression_raw_bytes, compression_wire_bytes;
  Number pauses, resumes;            // the client's bufferedAmount over high, under low
  Number read_pauses, read_resumes;  // the client's socket not read, read again
  Number paused_ms;                  // time over the high watermark, added at resume or close
  Number read_paused_ms;             // time not read, added when reading resumes or at close
  Number messages_dropped_oldest, messages_dropped_newest;
  Number slow_consumer_closes;
  Number pong_timeouts;
  Histogram<duration_bounds_ms.size()> duration;             // observed at the close
  Histogram<handshake_bounds_us.size()> handshake_duration;  // of accepted ones
  Histogram<ping_rtt_bounds_us.size()> ping_rtt;
  std::array<Number, limit_count> limit_rejections;  // by Limit
};

// What waits at one open WebSocket, for a scrape to see; one for which nothing waits has none.
// Slots are reused, never freed: a scrape that reads one while it changes hands sees numbers of the
// old or the new connection, never anything else.
struct ConnectionSlot {
  std::atomic<bool> live{false};         // stored last by take(), first by give_back()
  std::atomic<bool> paused{false};       // bufferedAmount rose over high and is not yet under low
  std::atomic<bool> read_paused{false};  // the client's socket is not read
  std::atomic<std::uint32_t> route{0};   // index into WorkerCounters::routes
  Number buffered_bytes;                 // to the client, as plain bytes (layer "app")
  Number buffered_tls_bytes;  // to the client, encrypted and not yet in the kernel (layer "tls")
  Number inbound_bytes;       // from the client, received and not yet handled
  Number upstream_bytes;      // to the upstream, as plain bytes (layer "app")
  Number upstream_tls_bytes;  // to the upstream, encrypted (layer "tls")

  // Nothing waits, nobody is paused.
  bool empty() const;
};

// The slots of one worker's connections. take() and give_back() on the worker's thread; for_each()
// on any thread.
class ConnectionTable {
 public:
  ConnectionTable();
  ~ConnectionTable();
  ConnectionTable(const ConnectionTable&) = delete;
  ConnectionTable& operator=(const ConnectionTable&) = delete;

  // Never fails: past its capacity of a million connections it hands out one shared slot that is
  // not counted. The slot's numbers are zero. Allocates once for every 256 slots.
  ConnectionSlot& take(std::uint32_t route);
  // The slot's owner writes to it no more. Never allocates.
  void give_back(ConnectionSlot& slot);

  // Calls visit(const ConnectionSlot&) for every live slot.
  template <typename Visit>
  void for_each(Visit visit) const {
    const std::size_t chunks = chunk_count_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < chunks; ++i) {
      for (const ConnectionSlot& slot : *chunks_[i]) {
        if (slot.live.load(std::memory_order_acquire)) visit(slot);
      }
    }
  }

 private:
  static constexpr std::size_t chunk_slots = 256;
  static constexpr std::size_t chunks_max = 4096;
  using Chunk = std::array<ConnectionSlot, chunk_slots>;

  void grow();

  std::unique_ptr<std::unique_ptr<Chunk>[]> chunks_;  // chunks_max places; filled from the front
  std::atomic<std::size_t> chunk_count_{0};
  std::vector<ConnectionSlot*> free_;
  ConnectionSlot overflow_;
};

// Everything that one worker counts. Lives as long as the gateway.
struct WorkerCounters {
  explicit WorkerCounters(std::size_t route_count) : routes(route_count + 1) {}

  // By the route's index in Config::routes. The last stands for requests that have no route: only
  // its handshakes and limit_rejections are ever shown.
  std::vector<RouteCounters> routes;
  ConnectionTable connections;
  Histogram<loop_lag_bounds_us.size()> loop_lag;
  Number compression_memory_bytes;
  Number evicted;  // clients that were dropped since memory was short
  std::array<Number, tls_result_count> tls_handshakes;

  RouteCounters& no_route() { return routes.back(); }
};

// What the main thread counts about memory.
struct MemoryCounters {
  Number budget_bytes;  // 0: none
  Number overload_level;
  Number shrinks;
  Number compression_bytes_max;  // of all workers
};

// What the accepting side counts.
struct ListenerCounters {
  Number accepted;
  Number errors_emfile, errors_enfile, errors_enobufs, errors_other;
  Number shed;             // accepted and closed at once for lack of descriptors
  Number shed_handshakes;  // ... since their address had too many handshakes
  Number shed_services;    // ... since the gateway's own listener had enough connections
};

}  // namespace sluice::metrics
