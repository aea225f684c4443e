// Dial: a connection to some endpoint of an upstream, with retries and deadlines.
//
// Destroying it gives the attempt up. On the worker's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/timer_wheel.h"
#include "base/turn.h"
#include "net/dialer.h"
#include "upstreams/upstream.h"
#include "worker_context.h"

namespace sluice::upstreams {

// Why there is no connection. `detail` names the last endpoint and what it said, for the log.
struct DialFailure {
  metrics::ConnectFailure reason;
  std::string detail;

  int http_status() const;  // 502, 503 or 504
};

struct Dialled {
  std::unique_ptr<net::Transport> transport;  // reading is off; call set_owner() at once
  Lease lease;
};

struct DialOptions {
  std::string hash_key = {};
  std::string prologue = {};          // of a PROXY protocol
  std::uint64_t timeout_ms = 10'000;  // for all attempts together
};

class Dial final : public Turn::Mortal,
                   private TimerWheel::Entry,
                   private Turn::Entry,
                   private net::Dialer::Owner {
 public:
  class Owner {
   public:
    virtual void on_dialled(Dialled dialled) = 0;
    virtual void on_dial_failed(const DialFailure& failure) = 0;

   protected:
    ~Owner() = default;
  };

  // The owner hears of the outcome once, never from inside the constructor. In its events it may
  // give the Dial to Turn::retire(), but not destroy it. `first`: the endpoint of the first
  // attempt, if the caller has picked it already.
  Dial(WorkerContext& context, std::shared_ptr<Upstream> upstream, DialOptions options,
       Owner& owner, Lease first = {});
  ~Dial() override;

 private:
  enum class State {
    starting,    // until the turn ends
    resolving,   // the endpoint has no address yet; looks again now and then
    connecting,  // dialer_ is at work
    failing,     // dialer_ has failed; until the turn ends
    pausing,     // before an endpoint gets a second chance
    over,        // the owner knows
  };

  void on_deadline() override;
  void on_turn_end() override;
  void on_dialled(std::unique_ptr<net::Transport> transport) override;
  void on_dial_failed(net::Dialer::Failure failure, const Error& error) override;
  void on_next_address() override { allot_time(); }

  void begin_attempt();
  void await_address();
  void connect(std::vector<net::Address> addresses);
  void allot_time();
  void give_up();
  void fail_attempt(metrics::ConnectFailure reason, const std::string& why);
  void pause();
  void refuse(Upstream::NoEndpoint none);
  void fail(const DialFailure& failure);
  void set_deadline(std::uint64_t due_ms);
  bool out_of_time() const;

  WorkerContext& context_;
  const std::shared_ptr<Upstream> upstream_;
  const DialOptions options_;
  Owner& owner_;
  const std::uint64_t deadline_ms_;  // of all attempts, by the wheel's clock

  State state_ = State::starting;
  std::uint32_t attempts_ = 0;
  std::vector<const Endpoint*> tried_;
  std::optional<DialFailure> last_failure_;
  bool hopeless_ = false;  // no other attempt would fare better
  // Of the present attempt; before it, the place that the caller has taken.
  Lease lease_;
  std::uint64_t attempt_deadline_ms_ = 0;
  std::uint64_t began_ns_ = 0;
  std::unique_ptr<net::Dialer> dialer_;
};

}  // namespace sluice::upstreams
