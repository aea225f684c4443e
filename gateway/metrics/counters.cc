#include "metrics/counters.h"

namespace sluice::metrics {

// One name for every value of the enumeration, in its order. A missing name would be a null
// pointer; the tests walk through all of them.
const char* label(Initiator initiator) {
  static constexpr std::array<const char*, initiator_count> names = {
      "client", "upstream", "gateway", "plugin", "network"};
  return names[static_cast<std::size_t>(initiator)];
}

const char* label(CloseReason reason) {
  static constexpr std::array<const char*, close_reason_count> names = {
      "normal",           "going_away",      "application",     "protocol_error", "invalid_data",
      "unsupported_data", "policy",          "message_too_big", "rate_limited",   "message_timeout",
      "idle_timeout",     "pong_timeout",    "close_timeout",   "slow_consumer",  "overload",
      "plugin_failed",    "upstream_failed", "drain",           "reset",          "lost",
      "tls_error"};
  return names[static_cast<std::size_t>(reason)];
}

const char* label(HandshakeResult result) {
  static constexpr std::array<const char*, handshake_result_count> names = {
      "accepted",         "bad_request",      "method_not_allowed",
      "rejected_origin",  "rejected_version", "rejected_subprotocol",
      "rejected_limit",   "rejected_plugin",  "no_route",
      "upstream_refused", "upstream_failed",  "upstream_invalid",
      "upstream_timeout", "not_websocket",    "timeout",
      "aborted",          "tls_error",        "draining"};
  return names[static_cast<std::size_t>(result)];
}

const char* label(Limit limit) {
  static constexpr std::array<const char*, limit_count> names = {
      "route_connections",   "process_connections", "message_size",   "fragments",
      "messages_per_second", "bytes_per_second",    "control_frames", "buffer",
      "compression_memory",  "client_connections",  "memory"};
  return names[static_cast<std::size_t>(limit)];
}

namespace {

constexpr std::size_t library_codes = 16;      // 3000 to 3999
constexpr std::size_t application_codes = 17;  // 4000 to 4999
constexpr std::size_t other_codes = 18;

}  // namespace

std::size_t close_code_index(std::uint16_t code) {
  if (code >= 1000 && code <= 1015) return code - std::size_t{1000};
  if (code >= 3000 && code <= 3999) return library_codes;
  if (code >= 4000 && code <= 4999) return application_codes;
  return other_codes;
}

const char* close_code_label(std::size_t index) {
  static constexpr std::array<const char*, close_code_count> names = {
      "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009",
      "1010", "1011", "1012", "1013", "1014", "1015", "3xxx", "4xxx", "other"};
  return names[index];
}

bool ConnectionSlot::empty() const {
  return !paused.load(std::memory_order_relaxed) && !read_paused.load(std::memory_order_relaxed) &&
         (buffered_bytes.get() | buffered_tls_bytes.get() | inbound_bytes.get() |
          upstream_bytes.get() | upstream_tls_bytes.get()) == 0;
}

ConnectionTable::ConnectionTable() : chunks_(new std::unique_ptr<Chunk>[chunks_max]) {}

ConnectionTable::~ConnectionTable() = default;

ConnectionSlot& ConnectionTable::take(std::uint32_t route) {
  if (free_.empty()) grow();
  if (free_.empty()) return overflow_;
  ConnectionSlot& slot = *free_.back();
  free_.pop_back();
  slot.paused.store(false, std::memory_order_relaxed);
  slot.read_paused.store(false, std::memory_order_relaxed);
  slot.route.store(route, std::memory_order_relaxed);
  slot.buffered_bytes.set(0);
  slot.buffered_tls_bytes.set(0);
  slot.inbound_bytes.set(0);
  slot.upstream_bytes.set(0);
  slot.upstream_tls_bytes.set(0);
  // Whoever sees the slot live sees the fields of this connection, or later ones.
  slot.live.store(true, std::memory_order_release);
  return slot;
}

void ConnectionTable::give_back(ConnectionSlot& slot) {
  if (&slot == &overflow_) return;
  slot.live.store(false, std::memory_order_release);
  free_.push_back(&slot);
}

void ConnectionTable::grow() {
  const std::size_t count = chunk_count_.load(std::memory_order_relaxed);
  if (count == chunks_max) return;
  chunks_[count] = std::make_unique<Chunk>();
  free_.reserve((count + 1) * chunk_slots);  // give_back() must not have to
  // Backwards, so that the slots are taken from the front.
  for (std::size_t i = chunk_slots; i > 0; --i) free_.push_back(&(*chunks_[count])[i - 1]);
  chunk_count_.store(count + 1, std::memory_order_release);
}

}  // namespace sluice::metrics
