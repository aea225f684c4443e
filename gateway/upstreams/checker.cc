#include "upstreams/checker.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "base/log.h"
#include "net/dialer.h"
#include "net/resolver.h"
#include "uv/timer.h"

namespace sluice::upstreams {
namespace {

// A name that has no address is asked for again sooner than one that has.
constexpr std::uint64_t unresolved_retry_ms = 2'000;
constexpr std::uint64_t refresh_min_ms = 100;
constexpr std::uint64_t unknown_ms = 100;          // until a name without an answer is looked at
constexpr std::uint64_t spread_max_ms = 1'000;     // of the first health checks
constexpr std::uint64_t ejection_tick_ms = 1'000;  // how late an ejection's end is shown
constexpr std::size_t status_line_bytes = 13;      // "HTTP/1.1 200" and what follows
constexpr const char* down_event = "upstream endpoint down";
constexpr const char* up_event = "upstream endpoint up";

using Random = std::minstd_rand;

// A number from `low` to `high`, both included.
std::uint64_t between(Random& random, std::uint64_t low, std::uint64_t high) {
  return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
}

// What is said to every watch: where it runs, and whom it tells of a first answer.
struct Setting {
  uv::Loop& loop;
  net::IoBuffers buffers = {};
  Random random{std::random_device()()};
  std::function<void()> on_answer = {};
};

// The name of one endpoint, looked up again and again. Keeps the upstream during a look-up only.
class Name {
 public:
  Name(Setting& setting, const std::shared_ptr<Upstream>& upstream, Endpoint& endpoint)
      : setting_(setting),
        watched_(upstream),
        endpoint_(endpoint),
        timer_(setting.loop, [this] { look_up(); }) {
    timer_.start(0);
  }

  bool answered() const { return answered_; }

 private:
  void look_up() {
    upstream_ = watched_.lock();
    if (upstream_ == nullptr) return;
    resolver_.emplace(setting_.loop, endpoint_.host(), endpoint_.port(),
                      [this](auto addresses) { answer(std::move(addresses)); });
  }

  // The resolver stays until the next look-up: this is its own event.
  void answer(Result<std::vector<net::Address>> addresses) {
    const std::uint64_t refresh_ms = std::max(refresh_min_ms, upstream_->config().dns_refresh_ms);
    std::uint64_t wait_ms =
        between(setting_.random, refresh_ms - refresh_ms / 10, refresh_ms + refresh_ms / 10);
    if (addresses && !addresses->empty()) {
      endpoint_.set_addresses(std::move(*addresses));
      note({});
    } else {
      note(addresses ? "the name has no address" : addresses.error().message);
      endpoint_.set_resolve_error(error_);
      wait_ms = std::min(wait_ms, unresolved_retry_ms);
    }
    upstream_.reset();
    timer_.start(wait_ms);
    if (!std::exchange(answered_, true)) setting_.on_answer();
  }

  // Each change once, however long it lasts.
  void note(std::string error) {
    if (error.empty() == error_.empty()) return;
    error_ = std::move(error);
    const log::Fields fields = {
        {"upstream", upstream_->name()}, {"endpoint", endpoint_.name()}, {"why", error_}};
    if (error_.empty()) {
      log::info("upstream name resolved", {fields[0], fields[1]});
    } else {
      log::warning("upstream name not resolved", fields);
    }
  }

  Setting& setting_;
  const std::weak_ptr<Upstream> watched_;
  std::shared_ptr<Upstream> upstream_;  // during a look-up
  Endpoint& endpoint_;
  bool answered_ = false;
  std::string error_;
  uv::Timer timer_;
  std::optional<net::Resolver> resolver_;
};

// The health of one endpoint, asked after again and again. One timer serves all: it starts a
// probe, ends it when it takes too long, and clears up behind it. Keeps the upstream during a probe
// only.
class Health final : private net::Dialer::Owner, private net::Transport::Owner {
 public:
  Health(Setting& setting, const std::shared_ptr<Upstream>& upstream, Endpoint& endpoint)
      : setting_(setting),
        watched_(upstream),
        endpoint_(endpoint),
        rules_(*upstream->config().health_check),
        timer_(setting.loop, [this] { on_time(); }) {
    timer_.start(between(setting_.random, 0, std::min(rules_.interval_ms, spread_max_ms)));
  }

 private:
  struct Verdict {
    std::optional<bool> healthy;  // none: it could not be asked
    std::string why;
  };

  void on_time() {
    if (!asking_) return ask();
    if (!verdict_ && left_ms() > 0) {
      dialer_->try_another();
      return on_next_address();
    }
    if (!verdict_) verdict_ = late();
    conclude();
  }

  Verdict late() const {
    const Error* const shortage = dialer_->out_of_ports();
    if (shortage != nullptr) return {{}, shortage->message};
    return {false, "no answer after " + std::to_string(rules_.timeout_ms) + " ms"};
  }

  void ask() {
    upstream_ = watched_.lock();
    if (upstream_ == nullptr) return;
    std::vector<net::Address> addresses = endpoint_.addresses();
    // Before the resolver's first answer nothing can be said.
    if (addresses.empty() && endpoint_.resolve_error().empty()) return timer_.start(unknown_ms);
    asking_ = true;
    asked_ms_ = setting_.loop.now_ms();
    if (addresses.empty()) return decide(false, "the name has no address");
    net::Dialer::Owner& itself = *this;
    dialer_ = std::make_unique<net::Dialer>(setting_.loop, setting_.buffers, std::move(addresses),
                                            upstream_->tls(), upstream_->server_name(endpoint_), "",
                                            itself);
    timer_.start(dialer_->share_ms(rules_.timeout_ms));
  }

  std::uint64_t left_ms() const {
    const std::uint64_t spent_ms = setting_.loop.now_ms() - asked_ms_;
    return rules_.timeout_ms - std::min(rules_.timeout_ms, spent_ms);
  }

  void on_dialled(std::unique_ptr<net::Transport> transport) override {
    transport_ = std::move(transport);
    transport_->set_owner(*this);
    if (rules_.path.empty()) return decide(true, "");
    const std::string host = rules_.host.empty() ? host_field() : rules_.host;
    const std::string request =
        "GET " + rules_.path + " HTTP/1.1\r\nHost: " + host +
        "\r\nUser-Agent: sluice\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    transport_->output().append(as_bytes(request));
    transport_->flush();
    transport_->read(true);
  }

  // A unix socket's path is no host.
  std::string host_field() const {
    return endpoint_.host().empty() ? "localhost" : endpoint_.name();
  }

  void on_dial_failed(net::Dialer::Failure failure, const Error& error) override {
    if (net::Dialer::is_own_shortage(failure)) return decide({}, error.message);
    decide(false, error.message);
  }

  void on_next_address() override { timer_.start(dialer_->share_ms(left_ms())); }

  void on_secure() override {}
  void on_sent() override {}

  void on_receive(MutableBytes bytes) override {
    const std::size_t wanted = status_line_bytes - answer_.size();
    const auto taken = bytes.first(std::min(wanted, bytes.size()));
    answer_.append(taken.begin(), taken.end());
    if (answer_.size() == status_line_bytes) judge();
  }

  void judge() {
    const auto digit = [this](std::size_t i) { return answer_[i] >= '0' && answer_[i] <= '9'; };
    const bool http = answer_.starts_with("HTTP/1.") && digit(7) && answer_[8] == ' ' && digit(9) &&
                      digit(10) && digit(11) && (answer_[12] == ' ' || answer_[12] == '\r');
    if (!http) return decide(false, "the answer is no HTTP/1 response");
    const bool healthy = answer_[9] == '2' || answer_[9] == '3';
    decide(healthy, "status " + answer_.substr(9, 3));
  }

  void on_end() override { decide(false, "the connection was closed before an answer"); }
  void on_failure(net::FailureKind, const Error& error) override { decide(false, error.message); }

  // The first word counts. What follows is for the timer: this may be the dialer's own event.
  void decide(std::optional<bool> healthy, std::string why) {
    if (verdict_) return;
    verdict_ = {healthy, std::move(why)};
    if (transport_) transport_->read(false);
    timer_.start(0);
  }

  void conclude() {
    transport_.reset();
    dialer_.reset();
    answer_.clear();
    asking_ = false;
    const Verdict verdict = *std::exchange(verdict_, {});
    note_shortage(verdict);
    if (verdict.healthy && upstream_->report_check(endpoint_, *verdict.healthy)) tell(verdict);
    upstream_.reset();
    const std::uint64_t spent_ms = setting_.loop.now_ms() - asked_ms_;
    timer_.start(rules_.interval_ms > spent_ms ? rules_.interval_ms - spent_ms : 1);
  }

  // Once, however long it lasts.
  void note_shortage(const Verdict& verdict) {
    const bool short_now = !verdict.healthy;
    if (std::exchange(short_, short_now) || !short_now) return;
    log::warning(
        "upstream endpoint not checked",
        {{"upstream", upstream_->name()}, {"endpoint", endpoint_.name()}, {"why", verdict.why}});
  }

  void tell(const Verdict& verdict) const {
    const bool up = *verdict.healthy;
    log::event(up ? log::Level::info : log::Level::warning, up ? up_event : down_event,
               {{"upstream", upstream_->name()},
                {"endpoint", endpoint_.name()},
                {"cause", "health"},
                {"why", verdict.why}});
  }

  Setting& setting_;
  const std::weak_ptr<Upstream> watched_;
  std::shared_ptr<Upstream> upstream_;  // during a probe
  Endpoint& endpoint_;
  const config::HealthCheck rules_;
  bool asking_ = false;
  std::uint64_t asked_ms_ = 0;
  std::optional<Verdict> verdict_;
  bool short_ = false;  // of descriptors or ports, at the last probe
  std::string answer_;  // its first bytes
  uv::Timer timer_;
  std::unique_ptr<net::Dialer> dialer_;
  std::unique_ptr<net::Transport> transport_;
};

// One upstream: what of its endpoints is to be watched.
struct Watch {
  Watch(Setting& setting, const std::shared_ptr<Upstream>& watched) : upstream(watched) {
    for (const auto& endpoint : watched->endpoints()) {
      if (endpoint->needs_resolving()) {
        names.push_back(std::make_unique<Name>(setting, watched, *endpoint));
      }
      if (watched->config().health_check) {
        health.push_back(std::make_unique<Health>(setting, watched, *endpoint));
      }
    }
  }

  bool idle() const { return names.empty() && health.empty(); }

  std::weak_ptr<Upstream> upstream;
  std::vector<std::unique_ptr<Name>> names;
  std::vector<std::unique_ptr<Health>> health;
};

bool ejects(const Upstream& upstream) {
  return upstream.endpoints().size() > 1 &&
         upstream.config().outlier_detection.consecutive_failures > 0;
}

}  // namespace

struct Checker::State {
  State(uv::Loop& loop, std::vector<std::shared_ptr<Upstream>> given)
      : setting{loop},
        upstreams(std::move(given)),
        ready_timer(loop, [this] { tell_ready(); }),
        ejection_timer(loop, [this] { end_ejections(); }) {
    setting.on_answer = [this] { on_answer(); };
  }

  void start(std::uint64_t timeout_ms, std::function<void()> when_ready) {
    ready = std::move(when_ready);
    for (const auto& upstream : upstreams) watch(upstream);
    ready_timer.start(all_answered() ? 0 : timeout_ms);
    if (std::any_of(upstreams.begin(), upstreams.end(),
                    [](const auto& upstream) { return ejects(*upstream); })) {
      ejection_timer.start(ejection_tick_ms, ejection_tick_ms);
    }
  }

  void watch(const std::shared_ptr<Upstream>& upstream) {
    if (watches.size() >= sweep_at) sweep();
    auto made = std::make_unique<Watch>(setting, upstream);
    if (!made->idle()) watches.push_back(std::move(made));
  }

  void on_answer() {
    if (ready && all_answered()) ready_timer.start(0);
  }

  bool all_answered() const {
    const auto answered = [](const auto& name) { return name->answered(); };
    return std::all_of(watches.begin(), watches.end(), [&](const auto& watch) {
      return std::all_of(watch->names.begin(), watch->names.end(), answered);
    });
  }

  void tell_ready() {
    if (ready) std::exchange(ready, {})();
  }

  void end_ejections() {
    for (const auto& upstream : upstreams) upstream->end_ejections();
  }

  // Forgets what nobody else keeps any more.
  void sweep() {
    std::erase_if(watches, [](const auto& watch) { return watch->upstream.expired(); });
    sweep_at = 2 * watches.size() + 16;
  }

  Setting setting;
  const std::vector<std::shared_ptr<Upstream>> upstreams;
  std::vector<std::unique_ptr<Watch>> watches;
  std::size_t sweep_at = 16;
  std::function<void()> ready;
  uv::Timer ready_timer;
  uv::Timer ejection_timer;
};

Checker::Checker(uv::Loop& loop, std::vector<std::shared_ptr<Upstream>> upstreams)
    : state_(std::make_unique<State>(loop, std::move(upstreams))) {}

Checker::~Checker() = default;

void Checker::start(std::uint64_t timeout_ms, std::function<void()> ready) {
  state_->start(timeout_ms, std::move(ready));
}

void Checker::add(const std::shared_ptr<Upstream>& upstream) {
  state_->watch(upstream);
}

}  // namespace sluice::upstreams
