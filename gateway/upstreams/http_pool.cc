#include "upstreams/http_pool.h"

#include <algorithm>
#include <utility>

#include "base/timer_wheel.h"

namespace sluice::upstreams {
namespace {

// An upstream that keeps a connection for n seconds closes it then; a request that is on its way
// just then would be lost.
constexpr std::uint64_t keep_alive_margin_ms = 1'000;

// A connection that is closed at the end of the turn.
class Closing final : public Turn::Mortal, private net::Transport::Owner {
 public:
  explicit Closing(HttpPool::Idle connection) : connection_(std::move(connection)) {
    connection_.transport->set_owner(*this);
    connection_.transport->read(false);
  }

 private:
  void on_secure() override {}
  void on_receive(MutableBytes) override {}
  void on_end() override {}
  void on_sent() override {}
  void on_failure(net::FailureKind, const Error&) override {}

  HttpPool::Idle connection_;
};

}  // namespace

void retire(Turn& turn, HttpPool::Idle connection) {
  if (connection.transport == nullptr) return;
  connection.lease.release();  // the next one may be asked for in this turn
  turn.retire(std::make_unique<Closing>(std::move(connection)));
}

// One idle connection.
class HttpPool::Kept final : public Turn::Mortal,
                             private net::Transport::Owner,
                             private TimerWheel::Entry {
 public:
  Kept(HttpPool& pool, std::shared_ptr<Upstream> upstream, Idle idle)
      : pool_(pool),
        upstream_(std::move(upstream)),
        endpoint_(idle.lease.endpoint()),
        idle_(std::move(idle)) {
    idle_.lease.release();
  }

  const Upstream* upstream() const { return upstream_.get(); }
  const Endpoint* endpoint() const { return endpoint_; }

  void begin(TimerWheel& wheel, std::uint64_t keep_ms) {
    wheel.set(*this, wheel.now_ms() + keep_ms);
    idle_.transport->set_owner(*this);
    idle_.transport->read(true);
  }

  // The pool has removed it.
  void leave() { removed_ = true; }
  // Then: the connection, or nothing if its end has arrived meanwhile, or bytes, which would be
  // taken for the next answer, or the service has moved.
  std::optional<Idle> release() {
    idle_.transport->read(false);
    if (broken_ || idle_.transport->write_failed() || idle_.transport->has_unread()) return {};
    if (!leads_to_endpoint()) return {};
    return std::move(idle_);
  }

 private:
  // Whoever had the name when the connection was made may have gone, or serve something else now.
  bool leads_to_endpoint() const {
    if (!endpoint_->needs_resolving()) return true;
    const Result<net::Address> address = idle_.transport->peer_address();
    return address && endpoint_->has_address(*address);
  }

  void on_secure() override {}
  void on_sent() override {}
  // Nobody asked for bytes: whose answer would they be?
  void on_receive(MutableBytes) override { end(); }
  void on_end() override { end(); }
  void on_failure(net::FailureKind, const Error&) override { end(); }
  void on_deadline() override { end(); }

  void end() {
    broken_ = true;
    if (!removed_) pool_.drop(*this);
  }

  HttpPool& pool_;
  std::shared_ptr<Upstream> upstream_;
  const Endpoint* endpoint_;
  Idle idle_;
  bool removed_ = false;
  bool broken_ = false;
};

HttpPool::HttpPool(WorkerContext& context) : context_(context) {}

HttpPool::~HttpPool() = default;

std::optional<HttpPool::Idle> HttpPool::take(const std::shared_ptr<Upstream>& upstream,
                                             Lease& lease) {
  const auto found = shelves_.find(upstream.get());
  if (found == shelves_.end()) return {};
  Shelf& shelf = found->second;

  for (std::size_t place = shelf.size(); place-- > 0;) {
    if (shelf[place]->endpoint() != lease.endpoint()) continue;
    std::unique_ptr<Kept> kept = remove(shelf, place);
    std::optional<Idle> idle = kept->release();
    context_.turn.retire(std::move(kept));
    if (!idle) continue;
    idle->lease = std::move(lease);
    return idle;
  }
  return {};
}

void HttpPool::give_back(const std::shared_ptr<Upstream>& upstream, Idle idle,
                         std::optional<std::uint64_t> timeout_ms) {
  std::uint64_t keep_ms = upstream->config().idle_timeout_ms;
  if (timeout_ms) {
    const std::uint64_t margin_ms = std::min(*timeout_ms, keep_alive_margin_ms);
    keep_ms = std::min(keep_ms, *timeout_ms - margin_ms);
  }
  const std::size_t kept_max = upstream->config().idle_connections_max;
  if (keep_ms == 0 || kept_max == 0) return retire(context_.turn, std::move(idle));

  Shelf& shelf = shelves_[upstream.get()];
  if (shelf.size() >= kept_max) context_.turn.retire(remove(shelf, 0));
  shelf.push_back(std::make_unique<Kept>(*this, upstream, std::move(idle)));
  shelf.back()->begin(context_.wheel, keep_ms);
}

std::size_t HttpPool::size() const {
  std::size_t count = 0;
  for (const auto& [upstream, shelf] : shelves_) count += shelf.size();
  return count;
}

void HttpPool::clear() {
  shelves_.clear();
}

std::unique_ptr<HttpPool::Kept> HttpPool::remove(Shelf& shelf, std::size_t place) {
  std::unique_ptr<Kept> kept = std::move(shelf[place]);
  shelf.erase(shelf.begin() + static_cast<std::ptrdiff_t>(place));
  kept->leave();
  return kept;
}

void HttpPool::drop(Kept& kept) {
  Shelf& shelf = shelves_[kept.upstream()];
  const auto place = std::ranges::find(shelf, &kept, &std::unique_ptr<Kept>::get);
  context_.turn.retire(
      remove(shelf, static_cast<std::size_t>(std::distance(shelf.begin(), place))));
}

}  // namespace sluice::upstreams
