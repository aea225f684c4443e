#include "upstreams/upstream.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <random>
#include <set>
#include <utility>

#include "base/log.h"

namespace sluice::upstreams {
namespace {

using metrics::ConnectFailure;

// The share of its weight with which a slow start begins: with none at all it would never begin.
constexpr double slow_start_floor = 0.02;

std::uint64_t system_clock_ms() {
  using std::chrono::steady_clock;
  const auto since = steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(since).count());
}

// The finalizer of splitmix64: every bit of the result depends on every bit of the argument.
std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// FNV-1a. The same in every process, so that several gateways agree on whose a key is.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return mix(hash);
}

// In (0, 1), neither end included.
double unit_interval(std::uint64_t bits) {
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

struct HostPort {
  std::string host;  // without brackets
  std::string port;
};

HostPort split(const std::string& address) {
  if (address.starts_with("unix:")) return {};
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {address, ""};
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return {host, address.substr(colon + 1)};
}

std::optional<std::uint16_t> parse_port(const std::string& text) {
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc() || parsed != end || port == 0) return {};
  return port;
}

bool is_ip(const std::string& host) {
  in6_addr unused;
  return inet_pton(AF_INET, host.c_str(), &unused) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &unused) == 1;
}

bool is_host_name(std::string_view host) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  };
  return !host.empty() && host.size() <= 253 && std::all_of(host.begin(), host.end(), allowed);
}

// The addresses of what needs no resolver; empty for names.
std::vector<net::Address> literal_addresses(const std::string& address) {
  const HostPort parts = split(address);
  std::vector<std::string> texts = {address};
  if (parts.host == "localhost") texts = {"127.0.0.1:" + parts.port, "[::1]:" + parts.port};
  std::vector<net::Address> addresses;
  for (const std::string& text : texts) {
    const auto parsed = net::Address::parse(text);
    if (parsed) addresses.push_back(*parsed);
  }
  return addresses;
}

Result<> check_address(const std::string& address) {
  const std::string quoted = "\"" + address + "\"";
  if (address.starts_with("unix:")) {
    const auto parsed = net::Address::parse(address);
    if (!parsed) return tl::unexpected(parsed.error());
    return {};
  }
  const HostPort parts = split(address);
  if (!parse_port(parts.port)) return fail(quoted + " has no valid port (1 to 65535)");
  // An IPv6 address without brackets is ambiguous, and refused like any other strange name.
  const bool bracketed = address.starts_with('[');
  if (bracketed ? is_ip(parts.host) : is_host_name(parts.host)) return {};
  return fail(quoted + ": the host is neither an IP address (IPv6 in [brackets]) nor a name");
}

// Two of the same name would be one in the metrics, and for a hash.
Result<> check_endpoints(const std::vector<config::Endpoint>& endpoints) {
  std::set<std::string_view> seen;
  for (const config::Endpoint& endpoint : endpoints) {
    auto checked = check_address(endpoint.address);
    if (!checked) return checked;
    if (!seen.insert(endpoint.address).second)
      return fail("\"" + endpoint.address + "\" is there twice");
  }
  if (endpoints.empty()) return fail("it has no endpoint");
  return {};
}

Result<std::shared_ptr<const net::TlsClientContext>> read_tls(const config::Upstream& config) {
  const config::UpstreamTls& tls = *config.tls;
  for (const config::Endpoint& endpoint : config.endpoints) {
    if (tls.verify && tls.server_name.empty() && endpoint.address.starts_with("unix:")) {
      return fail("\"" + endpoint.address +
                  "\" has no host name to verify: set tls.server_name, or tls.verify to false");
    }
  }
  return net::TlsClientContext::create({tls.ca_file, tls.cert_file, tls.key_file, tls.verify});
}

bool is_endpoints_fault(ConnectFailure failure) {
  return failure != ConnectFailure::no_endpoint && failure != ConnectFailure::full &&
         failure != ConnectFailure::descriptors;
}

bool contains(std::span<const Endpoint* const> endpoints, const Endpoint* endpoint) {
  return std::find(endpoints.begin(), endpoints.end(), endpoint) != endpoints.end();
}

}  // namespace

Endpoint::Endpoint(const config::Endpoint& config,
                   std::shared_ptr<metrics::EndpointCounters> counters)
    : config_(config), name_hash_(hash_of(config.address)), counters_(std::move(counters)) {
  const HostPort parts = split(config_.address);
  host_ = parts.host;
  port_ = parse_port(parts.port).value_or(0);
  set_addresses(literal_addresses(config_.address));
  needs_resolving_ = addresses_.empty();
  counters_->up.set(1);
}

std::vector<net::Address> Endpoint::addresses() const {
  const std::lock_guard lock(mutex_);
  return addresses_;
}

std::vector<net::Address> Endpoint::addresses_in_turn() {
  const std::lock_guard lock(mutex_);
  std::vector<net::Address> turned = addresses_;
  if (turned.size() < 2 || !needs_resolving_) return turned;
  const auto good_end = turned.end() - static_cast<std::ptrdiff_t>(failed_);
  const std::size_t first = connects_++ % (turned.size() - failed_);
  std::rotate(turned.begin(), turned.begin() + static_cast<std::ptrdiff_t>(first), good_end);
  return turned;
}

void Endpoint::put_last(std::span<const net::Address> failed) {
  if (failed.empty() || !needs_resolving_) return;
  const std::lock_guard lock(mutex_);
  for (const net::Address& address : failed) {
    const auto good_end = addresses_.end() - static_cast<std::ptrdiff_t>(failed_);
    const auto found = std::find(addresses_.begin(), good_end, address);
    if (found == good_end) continue;
    std::rotate(found, found + 1, addresses_.end());
    ++failed_;
  }
  if (failed_ == addresses_.size()) failed_ = 0;  // none is better than the others
}

void Endpoint::set_addresses(std::vector<net::Address> addresses) {
  const std::lock_guard lock(mutex_);
  addresses_ = std::move(addresses);
  failed_ = 0;
  resolve_error_.clear();
  resolved_.store(!addresses_.empty(), std::memory_order_relaxed);
}

bool Endpoint::has_address(const net::Address& address) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::find(addresses_, address) != addresses_.end();
}

std::string Endpoint::resolve_error() const {
  const std::lock_guard lock(mutex_);
  return resolve_error_;
}

void Endpoint::set_resolve_error(std::string error) {
  const std::lock_guard lock(mutex_);
  if (addresses_.empty()) resolve_error_ = std::move(error);
}

Lease::Lease(std::shared_ptr<Upstream> upstream, Endpoint* endpoint)
    : upstream_(std::move(upstream)), endpoint_(endpoint) {
  if (endpoint_ != nullptr) endpoint_->counters().active.add();
}

Lease::Lease(Lease&& other) noexcept
    : upstream_(std::move(other.upstream_)), endpoint_(std::exchange(other.endpoint_, nullptr)) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  release();
  upstream_ = std::move(other.upstream_);
  endpoint_ = std::exchange(other.endpoint_, nullptr);
  return *this;
}

void Lease::release() {
  if (endpoint_ != nullptr) endpoint_->counters().active.subtract();
  endpoint_ = nullptr;
  upstream_.reset();
}

Result<std::shared_ptr<Upstream>> Upstream::create(std::string name, config::Upstream config,
                                                   Clock clock, Counters counters) {
  const auto checked = check_endpoints(config.endpoints);
  if (!checked) return tl::unexpected(checked.error());
  std::shared_ptr<Upstream> upstream(
      new Upstream(std::move(name), std::move(config), std::move(clock), std::move(counters)));
  if (upstream->config_.tls) {
    auto tls = read_tls(upstream->config_);
    if (!tls) return tl::unexpected(tls.error());
    upstream->tls_ = std::move(*tls);
  }
  return upstream;
}

Upstream::Upstream(std::string name, config::Upstream config, Clock clock, Counters counters)
    : name_(std::move(name)),
      config_(std::move(config)),
      clock_(clock ? std::move(clock) : system_clock_ms),
      counters_(counters.upstream ? std::move(counters.upstream)
                                  : std::make_shared<metrics::UpstreamCounters>()),
      random_state_((std::uint64_t{std::random_device()()} << 32) | std::random_device()()) {
  for (const config::Endpoint& endpoint : config_.endpoints) {
    auto own =
        counters.endpoint ? counters.endpoint : std::make_shared<metrics::EndpointCounters>();
    endpoints_.push_back(std::make_unique<Endpoint>(endpoint, std::move(own)));
  }
}

const std::string& Upstream::server_name(const Endpoint& endpoint) const {
  const bool given = config_.tls && !config_.tls->server_name.empty();
  return given ? config_.tls->server_name : endpoint.host();
}

tl::expected<Lease, Upstream::NoEndpoint> Upstream::pick(std::string_view hash_key,
                                                         std::span<const Endpoint* const> tried) {
  const std::uint64_t now_ms = clock_();
  Candidates back;
  tl::expected<Lease, NoEndpoint> picked = tl::unexpected(NoEndpoint::all_down);
  {
    const std::lock_guard lock(mutex_);
    back = take_back(now_ms);
    Candidates candidates = fit(tried, now_ms);
    if (!candidates.empty()) {
      std::erase_if(candidates, [this](const Endpoint* endpoint) { return !has_room(*endpoint); });
      picked = tl::unexpected(NoEndpoint::all_full);
    }
    if (!candidates.empty()) {
      picked = Lease(shared_from_this(), choose(candidates, hash_key, now_ms));
    }
  }
  log_back(back);
  return picked;
}

const Endpoint* Upstream::owner_of(std::string_view hash_key) {
  if (config_.balance != config::Balance::hash || hash_key.empty()) return nullptr;
  const std::uint64_t now_ms = clock_();
  const std::lock_guard lock(mutex_);
  const Candidates candidates = fit({}, now_ms);
  return candidates.empty() ? nullptr : by_hash(candidates, hash_key, now_ms);
}

// Those that are up and have an address, if there are any; else those that are up; else whatever
// there is.
Upstream::Candidates Upstream::fit(std::span<const Endpoint* const> tried, std::uint64_t now_ms) {
  Candidates best;
  int best_rank = 4;
  for (const auto& endpoint : endpoints_) {
    if (endpoint->weight() == 0 || contains(tried, endpoint.get())) continue;
    const int rank = (is_up_at(*endpoint, now_ms) ? 0 : 2) + (endpoint->resolved_ ? 0 : 1);
    if (rank < best_rank) best.clear();
    best_rank = std::min(rank, best_rank);
    if (rank == best_rank) best.push_back(endpoint.get());
  }
  return best;
}

bool Upstream::has_room(const Endpoint& endpoint) const {
  return config_.connections_max == 0 || endpoint.counters().active.get() < config_.connections_max;
}

Endpoint* Upstream::choose(const Candidates& candidates, std::string_view hash_key,
                           std::uint64_t now_ms) {
  switch (config_.balance) {
    case config::Balance::round_robin:
      return by_turn(candidates, now_ms);
    case config::Balance::random:
      return by_chance(candidates, now_ms);
    case config::Balance::hash:
      if (!hash_key.empty()) return by_hash(candidates, hash_key, now_ms);
      break;
    case config::Balance::least_connections:
      break;
  }
  return by_load(candidates, now_ms);
}

// The least loaded; of several that are equally so, the one whose turn it is.
Endpoint* Upstream::by_load(const Candidates& candidates, std::uint64_t now_ms) {
  Candidates least;
  double least_load = 0;
  for (Endpoint* endpoint : candidates) {
    const double its_load = load(*endpoint, now_ms);
    if (least.empty() || its_load < least_load) {
      least = {endpoint};
      least_load = its_load;
    } else if (its_load == least_load) {
      least.push_back(endpoint);
    }
  }
  return by_turn(least, now_ms);
}

// Smooth weighted round robin: everyone gains its weight, the richest pays for all.
Endpoint* Upstream::by_turn(const Candidates& candidates, std::uint64_t now_ms) {
  double total = 0;
  Endpoint* next = nullptr;
  for (Endpoint* endpoint : candidates) {
    const double gain = weight(*endpoint, now_ms);
    total += gain;
    endpoint->turn_ += gain;
    if (next == nullptr || endpoint->turn_ > next->turn_) next = endpoint;
  }
  next->turn_ -= total;
  return next;
}

// The less loaded one of two that chance names.
Endpoint* Upstream::by_chance(const Candidates& candidates, std::uint64_t now_ms) {
  const std::size_t first = random() % candidates.size();
  if (candidates.size() == 1) return candidates[first];
  std::size_t second = random() % (candidates.size() - 1);
  if (second >= first) ++second;
  const bool keep = load(*candidates[first], now_ms) <= load(*candidates[second], now_ms);
  return candidates[keep ? first : second];
}

// Weighted rendezvous: each endpoint draws a number from the key and its own name, and the best one
// has it. Whoever goes or comes moves no keys but its own.
Endpoint* Upstream::by_hash(const Candidates& candidates, std::string_view key,
                            std::uint64_t now_ms) const {
  const std::uint64_t key_hash = hash_of(key);
  Endpoint* owner = nullptr;
  double best = 0;
  for (Endpoint* endpoint : candidates) {
    const double draw = unit_interval(mix(key_hash ^ endpoint->name_hash_));
    const double score = weight(*endpoint, now_ms) / -std::log(draw);
    if (owner != nullptr && score <= best) continue;
    owner = endpoint;
    best = score;
  }
  return owner;
}

double Upstream::weight(const Endpoint& endpoint, std::uint64_t now_ms) const {
  const double whole = endpoint.weight();
  if (endpoint.slow_from_ms_ == 0 || now_ms >= endpoint.slow_from_ms_ + config_.slow_start_ms) {
    return whole;
  }
  const double elapsed_ms =
      now_ms > endpoint.slow_from_ms_ ? static_cast<double>(now_ms - endpoint.slow_from_ms_) : 0;
  return whole *
         std::max(slow_start_floor, elapsed_ms / static_cast<double>(config_.slow_start_ms));
}

// As it would be with one connection more, so that the weights count for idle endpoints too.
double Upstream::load(const Endpoint& endpoint, std::uint64_t now_ms) const {
  return (static_cast<double>(endpoint.counters().active.get()) + 1) / weight(endpoint, now_ms);
}

std::uint64_t Upstream::random() {
  random_state_ += 0x9e3779b97f4a7c15;
  return mix(random_state_);
}

void Upstream::report_success(Endpoint& endpoint, std::uint64_t connect_us) {
  endpoint.counters().connects.add();
  const auto bound = std::lower_bound(metrics::connect_bounds_us.begin(),
                                      metrics::connect_bounds_us.end(), connect_us);
  const auto bucket = static_cast<std::size_t>(bound - metrics::connect_bounds_us.begin());
  counters_->connect_buckets[bucket].add();
  counters_->connect_us_sum.add(connect_us);

  const std::uint64_t now_ms = clock_();
  Candidates back;
  {
    const std::lock_guard lock(mutex_);
    endpoint.failures_in_row_ = 0;
    endpoint.ejections_in_row_ = 0;
    // There is no better sign that it is back.
    if (endpoint.ejected_until_ms_ > now_ms) endpoint.ejected_until_ms_ = now_ms;
    if (endpoint.ejected_until_ms_ != 0) next_ejection_end_ms_ = now_ms;
    back = take_back(now_ms);
  }
  log_back(back);
}

void Upstream::report_failure(Endpoint& endpoint, ConnectFailure failure) {
  endpoint.counters().failures[static_cast<std::size_t>(failure)].add();
  if (!is_endpoints_fault(failure)) return;
  const std::uint64_t now_ms = clock_();
  std::uint32_t in_row = 0;
  std::uint64_t ejected_ms = 0;
  {
    const std::lock_guard lock(mutex_);
    in_row = ++endpoint.failures_in_row_;
    if (in_row < config_.outlier_detection.consecutive_failures) return;
    if (!may_eject(endpoint, now_ms)) return;
    eject(endpoint, now_ms);
    ejected_ms = endpoint.ejected_until_ms_ - now_ms;
  }
  log::warning("upstream endpoint down",
               {{"upstream", name_},
                {"endpoint", endpoint.name()},
                {"cause", "connect"},
                {"why", std::to_string(in_row) +
                            " failures to connect in a row, the last: " + metrics::label(failure)},
                {"ejected_ms", ejected_ms}});
  tell_down(endpoint);
}

bool Upstream::may_eject(const Endpoint& endpoint, std::uint64_t now_ms) const {
  const config::OutlierDetection& rules = config_.outlier_detection;
  if (rules.consecutive_failures == 0 || !is_up_at(endpoint, now_ms)) return false;
  std::size_t ejected = 0;
  std::size_t others_up = 0;
  for (const auto& other : endpoints_) {
    if (other->ejected_until_ms_ > now_ms) ++ejected;
    if (other.get() == &endpoint || other->weight() == 0) continue;
    if (is_up_at(*other, now_ms)) ++others_up;
  }
  // Of few endpoints one may always go, however small the percentage.
  const std::size_t allowed = std::max<std::size_t>(
      rules.max_ejection_percent > 0 ? 1 : 0, endpoints_.size() * rules.max_ejection_percent / 100);
  return others_up > 0 && ejected < allowed;
}

void Upstream::eject(Endpoint& endpoint, std::uint64_t now_ms) {
  const config::OutlierDetection& rules = config_.outlier_detection;
  std::uint64_t span_ms = std::min(rules.base_ejection_time_ms, rules.max_ejection_time_ms);
  for (std::uint32_t i = 0; i < endpoint.ejections_in_row_; ++i) {
    if (span_ms > rules.max_ejection_time_ms / 2) {
      span_ms = rules.max_ejection_time_ms;
      break;
    }
    span_ms *= 2;
  }
  ++endpoint.ejections_in_row_;
  endpoint.failures_in_row_ = 0;
  endpoint.ejected_until_ms_ = now_ms + span_ms;
  if (next_ejection_end_ms_ == 0 || now_ms + span_ms < next_ejection_end_ms_) {
    next_ejection_end_ms_ = now_ms + span_ms;
  }
  counters_->ejections_connect.add();
  show(endpoint, now_ms);
}

void Upstream::end_ejections() {
  const std::uint64_t now_ms = clock_();
  Candidates back;
  {
    const std::lock_guard lock(mutex_);
    back = take_back(now_ms);
  }
  log_back(back);
}

// Ends the ejections that are over; those that are up with that.
Upstream::Candidates Upstream::take_back(std::uint64_t now_ms) {
  Candidates back;
  if (next_ejection_end_ms_ == 0 || now_ms < next_ejection_end_ms_) return back;
  next_ejection_end_ms_ = 0;
  for (const auto& endpoint : endpoints_) {
    const std::uint64_t until_ms = endpoint->ejected_until_ms_;
    if (until_ms == 0) continue;
    if (until_ms > now_ms) {
      next_ejection_end_ms_ =
          next_ejection_end_ms_ == 0 ? until_ms : std::min(next_ejection_end_ms_, until_ms);
      continue;
    }
    endpoint->ejected_until_ms_ = 0;
    endpoint->failures_in_row_ = 0;
    endpoint->slow_from_ms_ = until_ms;
    show(*endpoint, now_ms);
    if (endpoint->healthy_) back.push_back(endpoint.get());
  }
  return back;
}

bool Upstream::report_check(Endpoint& endpoint, bool healthy) {
  const config::HealthCheck rules = config_.health_check.value_or(config::HealthCheck{});
  const std::uint64_t now_ms = clock_();
  Candidates back;
  bool up = false;
  {
    const std::lock_guard lock(mutex_);
    if (healthy == endpoint.healthy_) {
      endpoint.checks_in_row_ = 0;
      return false;
    }
    const std::uint32_t needed = healthy ? rules.healthy_threshold : rules.unhealthy_threshold;
    if (++endpoint.checks_in_row_ < needed) return false;
    endpoint.checks_in_row_ = 0;
    back = take_back(now_ms);  // an ejection that is over does not tell of it once more
    endpoint.healthy_ = healthy;
    if (healthy) endpoint.slow_from_ms_ = now_ms;
    show(endpoint, now_ms);
    up = is_up_at(endpoint, now_ms);
  }
  log_back(back);
  if (healthy) return up;
  counters_->ejections_health.add();
  tell_down(endpoint);
  return true;
}

bool Upstream::is_up(const Endpoint& endpoint) const {
  return endpoint.healthy_ && (endpoint.ejected_until_ms_ == 0 || is_up_at(endpoint, clock_()));
}

bool Upstream::is_up_at(const Endpoint& endpoint, std::uint64_t now_ms) const {
  return endpoint.healthy_ && endpoint.ejected_until_ms_ <= now_ms;
}

void Upstream::show(Endpoint& endpoint, std::uint64_t now_ms) {
  endpoint.counters().up.set(is_up_at(endpoint, now_ms) ? 1 : 0);
}

void Upstream::log_back(const Candidates& back) const {
  for (const Endpoint* endpoint : back) {
    log::info("upstream endpoint up",
              {{"upstream", name_}, {"endpoint", endpoint->name()}, {"cause", "connect"}});
  }
}

std::uint64_t Upstream::subscribe(OnDown on_down) {
  const std::lock_guard lock(subscribers_mutex_);
  subscribers_.emplace(++last_subscription_, std::move(on_down));
  return last_subscription_;
}

void Upstream::unsubscribe(std::uint64_t subscription) {
  const std::lock_guard lock(subscribers_mutex_);
  subscribers_.erase(subscription);
}

void Upstream::tell_down(const Endpoint& endpoint) {
  if (config_.on_endpoint_down != config::OnEndpointDown::close) return;
  const std::lock_guard lock(subscribers_mutex_);
  for (const auto& [number, on_down] : subscribers_) on_down(endpoint);
}

}  // namespace sluice::upstreams
