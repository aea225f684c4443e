#include "upstreams/dial.h"

#include <algorithm>
#include <utility>

namespace sluice::upstreams {
namespace {

using metrics::ConnectFailure;

// Before the same endpoint is asked again: what refused a moment ago is not back at once.
constexpr std::uint64_t second_chance_pause_ms = 100;

ConnectFailure reason_of(net::Dialer::Failure failure) {
  switch (failure) {
    case net::Dialer::Failure::refused:
      return ConnectFailure::refused;
    case net::Dialer::Failure::unreachable:
      return ConnectFailure::unreachable;
    case net::Dialer::Failure::reset:
      return ConnectFailure::reset;
    case net::Dialer::Failure::tls:
      return ConnectFailure::tls;
    case net::Dialer::Failure::out_of_descriptors:
    case net::Dialer::Failure::out_of_ports:
      return ConnectFailure::descriptors;
  }
  return ConnectFailure::unreachable;
}

}  // namespace

int DialFailure::http_status() const {
  switch (reason) {
    case ConnectFailure::timeout:
      return 504;
    case ConnectFailure::no_endpoint:
    case ConnectFailure::full:
    case ConnectFailure::descriptors:
      return 503;
    default:
      return 502;
  }
}

Dial::Dial(WorkerContext& context, std::shared_ptr<Upstream> upstream, DialOptions options,
           Owner& owner, Lease first)
    : context_(context),
      upstream_(std::move(upstream)),
      options_(std::move(options)),
      owner_(owner),
      deadline_ms_(context.wheel.now_ms() + options_.timeout_ms),
      lease_(std::move(first)) {
  context_.turn.wake(*this);
}

Dial::~Dial() = default;

void Dial::on_turn_end() {
  // The dialer has returned from its event by now.
  dialer_.reset();
  if (state_ == State::starting) return begin_attempt();
  if (state_ != State::failing) return;
  if (hopeless_) return fail(*last_failure_);
  begin_attempt();
}

void Dial::begin_attempt() {
  if (attempts_ > 0 && (attempts_ >= upstream_->config().connect_attempts || out_of_time())) {
    return fail(*last_failure_);
  }
  if (lease_.endpoint() == nullptr) {
    auto picked = upstream_->pick(options_.hash_key, tried_);
    if (!picked) return tried_.empty() ? refuse(picked.error()) : pause();
    lease_ = std::move(*picked);
  }
  if (++attempts_ > 1) upstream_->counters().retries.add();
  tried_.push_back(lease_.endpoint());
  began_ns_ = uv::now_ns();
  attempt_deadline_ms_ =
      std::min(context_.wheel.now_ms() + upstream_->config().connect_timeout_ms, deadline_ms_);
  await_address();
}

void Dial::await_address() {
  Endpoint& endpoint = *lease_.endpoint();
  std::vector<net::Address> addresses = endpoint.addresses_in_turn();
  if (!addresses.empty()) return connect(std::move(addresses));
  const std::string error = endpoint.resolve_error();
  if (!error.empty()) return fail_attempt(ConnectFailure::unresolved, error);

  state_ = State::resolving;
  set_deadline(std::min(attempt_deadline_ms_, context_.wheel.now_ms() + TimerWheel::tick_ms));
}

void Dial::connect(std::vector<net::Address> addresses) {
  state_ = State::connecting;
  net::Dialer::Owner& itself = *this;  // a private base, which make_unique() could not see
  dialer_ = std::make_unique<net::Dialer>(
      context_.loop, context_.buffers, std::move(addresses), upstream_->tls(),
      upstream_->server_name(*lease_.endpoint()), options_.prologue, itself);
  allot_time();
}

// One address that does not answer shall not take the time of the others.
void Dial::allot_time() {
  const std::uint64_t now_ms = std::min(context_.wheel.now_ms(), attempt_deadline_ms_);
  set_deadline(now_ms + dialer_->share_ms(attempt_deadline_ms_ - now_ms));
}

void Dial::on_dialled(std::unique_ptr<net::Transport> transport) {
  state_ = State::over;
  set_deadline(TimerWheel::never);
  const auto tried = dialer_->tried();
  lease_.endpoint()->put_last(tried.first(tried.size() - 1));
  upstream_->report_success(*lease_.endpoint(), (uv::now_ns() - began_ns_) / 1'000);
  owner_.on_dialled({std::move(transport), std::move(lease_)});
}

void Dial::on_dial_failed(net::Dialer::Failure failure, const Error& error) {
  // Another endpoint would need a descriptor too.
  hopeless_ = failure == net::Dialer::Failure::out_of_descriptors;
  if (!net::Dialer::is_own_shortage(failure)) lease_.endpoint()->put_last(dialer_->tried());
  fail_attempt(reason_of(failure), error.message);
}

void Dial::on_deadline() {
  switch (state_) {
    case State::resolving:
      if (context_.wheel.now_ms() < attempt_deadline_ms_) return await_address();
      return fail_attempt(ConnectFailure::unresolved, "the name's address is not known yet");
    case State::connecting:
      if (context_.wheel.now_ms() < attempt_deadline_ms_) {
        dialer_->try_another();
        return allot_time();
      }
      return give_up();
    case State::pausing:
      return begin_attempt();
    case State::starting:
    case State::failing:
    case State::over:
      break;  // these have no deadline
  }
}

// There is no connection in time.
void Dial::give_up() {
  const auto dialer = std::move(dialer_);  // it has nothing more to say
  if (const Error* const shortage = dialer->out_of_ports())
    return fail_attempt(ConnectFailure::descriptors, shortage->message);
  lease_.endpoint()->put_last(dialer->tried());
  fail_attempt(
      ConnectFailure::timeout,
      "no connection after " + std::to_string((uv::now_ns() - began_ns_) / 1'000'000) + " ms");
}

// The rest at the end of the turn: this may be the dialer's own event.
void Dial::fail_attempt(ConnectFailure reason, const std::string& why) {
  state_ = State::failing;
  set_deadline(TimerWheel::never);
  upstream_->report_failure(*lease_.endpoint(), reason);
  last_failure_ = DialFailure{reason, lease_.endpoint()->name() + ": " + why};
  lease_.release();
  context_.turn.wake(*this);
}

// All that there are were tried. The last of them comes back last.
void Dial::pause() {
  state_ = State::pausing;
  tried_.erase(tried_.begin(), tried_.size() > 1 ? tried_.end() - 1 : tried_.end());
  set_deadline(context_.wheel.now_ms() + second_chance_pause_ms);
}

void Dial::refuse(Upstream::NoEndpoint none) {
  // Whoever was there a moment ago says more.
  if (last_failure_) return fail(*last_failure_);
  const bool full = none == Upstream::NoEndpoint::all_full;
  const ConnectFailure reason = full ? ConnectFailure::full : ConnectFailure::no_endpoint;
  upstream_->counters().failures[static_cast<std::size_t>(reason)].add();
  fail({reason, upstream_->name() + (full ? ": every endpoint has max_connections"
                                          : ": no endpoint has a weight above 0")});
}

void Dial::fail(const DialFailure& failure) {
  state_ = State::over;
  set_deadline(TimerWheel::never);
  owner_.on_dial_failed(failure);
}

void Dial::set_deadline(std::uint64_t due_ms) {
  context_.wheel.set(*this, due_ms == TimerWheel::never ? due_ms : std::min(due_ms, deadline_ms_));
}

bool Dial::out_of_time() const {
  return context_.wheel.now_ms() >= deadline_ms_;
}

}  // namespace sluice::upstreams
