#include "worker.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <span>
#include <utility>

#include "base/log.h"
#include "http/response.h"

namespace sluice {
namespace {

// Rounds of waking that one turn does; then the loop looks at its sockets again first.
constexpr int wake_rounds_max = 16;

// Streams and buffers for compression that nobody has used for as long are given back.
constexpr std::uint64_t compression_spare_ms = 5'000;

// Who holds less is left alone: dropping it would help nobody.
constexpr std::uint64_t evicted_bytes_min = 16 * 1024;

constexpr std::uint64_t tick_ns = TimerWheel::tick_ms * 1'000'000;

}  // namespace

Worker::Worker(std::uint32_t index, uv::Loop& loop, const config::Config& config, Shared& shared,
               metrics::WorkerCounters& counters)
    : index_(index),
      loop_(loop),
      config_(config),
      shared_(shared),
      counters_(counters),
      compression_(config.memory.compression_bytes),
      wheel_(loop.now_ms()),
      context_{loop_, wheel_, buffers_, turn_, counters_, compression_},
      http_pool_(context_),
      ticker_(loop, [this] { tick(); }) {
  hook_ = loop_.at_turn_end([this] { turn_end(); });
}

Worker::~Worker() {
  assert(connections_.empty() && kept_.empty());
  // What was retired may have retired others.
  while (turn_.bury()) continue;
  loop_.forget(hook_);
}

void Worker::post_connection(int fd, const net::Endpoint& peer, const net::TlsContext* tls,
                             Admission admission) {
  count_connection();
  loop_.post([this, fd, peer, tls, admission] { take(fd, peer, tls, admission); });
}

void Worker::add(int fd, const net::Endpoint& peer, const net::TlsContext* tls,
                 Admission admission) {
  count_connection();
  take(fd, peer, tls, admission);
}

// One that is counted already.
void Worker::take(int fd, const net::Endpoint& peer, const net::TlsContext* tls,
                  Admission admission) {
  start_ticking();
  keep(std::make_unique<Connection>(*this, ++serial_, connections_.size(), fd, peer, tls,
                                    admission));
}

void Worker::add(std::unique_ptr<net::Transport> transport, const net::Endpoint& peer) {
  count_connection();
  start_ticking();
  keep(std::make_unique<Connection>(*this, ++serial_, connections_.size(), std::move(transport),
                                    peer));
}

void Worker::count_connection() {
  load_.fetch_add(1, std::memory_order_relaxed);
  shared_.connections.fetch_add(1, std::memory_order_relaxed);
}

void Worker::forget_connection() {
  load_.fetch_sub(1, std::memory_order_relaxed);
  shared_.connections.fetch_sub(1, std::memory_order_relaxed);
}

void Worker::keep(std::unique_ptr<Connection> connection) {
  connections_.push_back(std::move(connection));
  if (draining_) connections_.back()->drain();
}

void Worker::turn_end() {
  for (int round = 0; round < wake_rounds_max && run_woken(); ++round) continue;
  destroy_retired();
  report_if_empty();
  if (!woken_.empty() || !turn_.idle()) loop_.post([] {});  // another turn, at once
}

bool Worker::run_woken() {
  if (woken_.empty() && !turn_.has_woken()) return false;
  turn_.run_woken();
  waking_.swap(woken_);
  for (Connection* connection : waking_) connection->turn_end();
  waking_.clear();
  return true;
}

// But for those that are still among the woken.
void Worker::destroy_retired() {
  if (!turn_.has_woken()) turn_.bury();
  const auto dead = std::partition(retired_.begin(), retired_.end(),
                                   [](const Connection* retired) { return retired->waking(); });
  for (Connection* connection : std::span(dead, retired_.end())) {
    const std::size_t place = connection->place();
    connections_.back()->set_place(place);
    std::swap(connections_[place], connections_.back());
    if (connections_.back()->counted()) forget_connection();
    connections_.pop_back();
  }
  retired_.erase(dead, retired_.end());
}

// ---- Bridges that outlive their sockets

bool Worker::part_with(std::unique_ptr<Bridge> bridge, const ClientPlaces& places) {
  if (!bridge->outlives_socket() || cut_) {
    if (bridge->outlives_socket()) bridge->cut();
    turn_.retire(std::move(bridge));
    return false;
  }
  Bridge& kept = *bridge;
  kept_.emplace(&kept, Kept{std::move(bridge), places});
  kept.set_keeper(*this);
  return true;
}

void Worker::on_bridge_done(Bridge& bridge) {
  const auto found = kept_.find(&bridge);
  if (found == kept_.end()) return;
  release(found->second);
  kept_.erase(found);
}

// It may be in its own call.
void Worker::release(Kept& kept) {
  const ClientPlaces& places = kept.places;
  if (places.client) shared_.clients->leave(*places.client, places.opened);
  places.open_on_route->fetch_sub(1, std::memory_order_relaxed);
  forget_connection();
  turn_.retire(std::move(kept.bridge));
}

// ---- Time

void Worker::start_ticking() {
  if (ticker_.active()) return;
  wheel_.advance(loop_.now_ms());
  tick_due_ns_ = uv::now_ns() + tick_ns;
  ticker_.start(TimerWheel::tick_ms, TimerWheel::tick_ms);
}

void Worker::tick() {
  const std::uint64_t now_ns = uv::now_ns();
  // The loop's clock has whole milliseconds: less than one late is not late.
  const std::uint64_t late_us = now_ns > tick_due_ns_ ? (now_ns - tick_due_ns_) / 1000 : 0;
  counters_.loop_lag.observe(metrics::loop_lag_bounds_us, late_us);
  tick_due_ns_ = now_ns + tick_ns;
  wheel_.advance(loop_.now_ms());
  look_at_compression();
  if (!connections_.empty() || !kept_.empty() || wheel_.size() != 0) return;
  compression_.shrink();  // nobody looks at it again until somebody comes
  counters_.compression_memory_bytes.set(compression_.used_bytes());
  ticker_.stop();
}

void Worker::look_at_compression() {
  if (loop_.now_ms() - compression_trimmed_ms_ >= compression_spare_ms) {
    compression_trimmed_ms_ = loop_.now_ms();
    compression_.trim();
  }
  counters_.compression_memory_bytes.set(compression_.used_bytes());
}

const std::string& Worker::http_date() {
  if (http_date_.empty() || loop_.now_ms() - http_date_ms_ >= 1000) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    http_date_ = http::http_date(std::chrono::duration_cast<std::chrono::seconds>(now).count());
    http_date_ms_ = loop_.now_ms();
  }
  return http_date_;
}

// ---- Memory

void Worker::shrink() {
  compression_.shrink();
  buffers_.pool.trim();
  http_pool_.clear();
}

// Whose clients have gone goes first. Returns what they held.
std::uint64_t Worker::cut_kept(std::uint64_t bytes) {
  std::uint64_t freed = 0;
  for (auto at = kept_.begin(); at != kept_.end() && freed < bytes;) {
    const std::uint64_t held = at->second.bridge->held_bytes();
    if (held < evicted_bytes_min) {
      ++at;
      continue;
    }
    freed += held;
    counters_.evicted.add();
    at->second.bridge->cut();
    release(at->second);
    at = kept_.erase(at);
  }
  return freed;
}

void Worker::evict(std::uint64_t bytes) {
  std::vector<std::pair<std::uint64_t, Connection*>> slow;
  for (const auto& connection : connections_) {
    const std::uint64_t held = connection->held_bytes();
    if (held >= evicted_bytes_min) slow.emplace_back(held, connection.get());
  }
  std::ranges::sort(slow, std::greater<>());
  std::uint64_t freed = cut_kept(bytes);
  for (const auto& [held, connection] : slow) {
    if (freed >= bytes) break;
    freed += held;
    counters_.evicted.add();
    connection->evict();
  }
}

// ---- Shutdown

void Worker::drain(std::uint64_t timeout_ms, std::function<void()> on_empty) {
  draining_ = true;
  on_empty_ = std::move(on_empty);
  for (const auto& connection : connections_) connection->drain();
  drain_deadline_ = std::make_unique<uv::Timer>(loop_, [this] { cut(); });
  drain_deadline_->start(timeout_ms);
  report_if_empty();
}

void Worker::cut() {
  cut_ = true;
  for (const auto& connection : connections_) connection->cut();
  // None of them is looked up any more: it has nobody to tell that it has ended.
  for (auto& [key, kept] : std::exchange(kept_, {})) {
    kept.bridge->cut();
    release(kept);
  }
}

void Worker::report_if_empty() {
  // A connection may still be under way to us, and one that lingers may count no more.
  const bool empty = load() == 0 && connections_.empty() && kept_.empty();
  if (!draining_ || !empty || !on_empty_) return;
  drain_deadline_.reset();
  const auto on_empty = std::move(on_empty_);
  on_empty_ = nullptr;
  on_empty();
}

}  // namespace sluice
