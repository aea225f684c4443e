// Dial: a connection to some endpoint of an upstream, with retries and deadlines.
//
// Destroying it gives the attempt up. On the worker's thread.
#pragma once

#include <memory>
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
  // give the Dial to Turn::retire(), but not destroy it.
  Dial(WorkerContext& context, std::shared_ptr<Upstream> upstream, DialOptions options,
       Owner& owner);
  ~Dial() override;

 private:
  void on_deadline() override;
  void on_turn_end() override;
  void on_dialled(std::unique_ptr<net::Transport> transport) override;
  void on_dial_failed(net::Dialer::Failure failure, const Error& error) override;
  // Private members as dial.cc needs them.
};

}  // namespace sluice::upstreams
