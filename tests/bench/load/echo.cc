// Echoes in a closed loop, in which each connection waits for its batch before it sends the next,
// and in an open one, in which batches are due at their times whatever became of those before.
//
// A closed loop asks less of a server that is slow, and so hides how long its users would wait
// (coordinated omission). An open loop counts a batch's time from the moment it was due.
#include <sys/prctl.h>

#include <algorithm>
#include <cstdint>

#include "echoes.h"
#include "modes.h"
#include "report.h"
#include "slow.h"

namespace load {
namespace {

class Echo : public Echoes {
 public:
  explicit Echo(const Options& options)
      : Echoes(options), slow_(options, crowd_), meter_(options) {}

  void run() {
    open_all();
    slow_.open_and_fill();
    warm_up();
    if (options_.wait) {
      Line().add("ready", true).print();
      crowd_.wait_for_line();
    }
    messages_ = compressed_bytes_ = 0;
    latencies_.clear();
    const std::uint64_t slow_bytes = slow_.bytes_sent();
    meter_.start();
    measure();
    meter_.stop();
    report(slow_.bytes_sent() - slow_bytes);
    if (options_.wait) crowd_.wait_for_line();
  }

 protected:
  virtual void warm_up() = 0;
  virtual void measure() = 0;
  virtual const char* loop() const = 0;

  void count(std::uint64_t since_ns) {
    messages_ += options_.pipeline;
    latencies_.add(now_ns() - since_ns);
  }

 private:
  void report(std::uint64_t slow_bytes) const {
    Line line = meter_.figures("messages", messages_, latencies_);
    line.text("loop", loop());
    if (options_.deflate) line.add("compressed_bytes", compressed_bytes_);
    if (options_.rate != 0) line.add("rate", options_.rate);
    if (options_.slow != 0) {
      line.add("slow", std::uint64_t{options_.slow})
          .add("slow_bytes_sent", slow_bytes)
          .add("slow_closed", slow_.closed());
    }
    line.print();
  }

  SlowReaders slow_;
  Meter meter_;
  Histogram latencies_;  // of batches
  std::uint64_t messages_ = 0;
};

// ---- Closed

class ClosedLoop : public Echo {
 public:
  explicit ClosedLoop(const Options& options)
      : Echo(options),
        quota_(options.messages / (options.connections * options.pipeline)),
        loops_(options.connections) {
    if (options.messages != 0 && quota_ == 0) {
      die("--messages: less than one batch a connection");
    }
  }

 private:
  struct Loop {
    std::uint64_t left = 0;  // batches, with the one that is under way
    std::uint64_t sent_ns = 0;
  };

  void warm_up() override {
    if (quota_ != 0) return echo_once();
    start_all(UINT64_MAX);
    const auto end = now_ns() + static_cast<std::uint64_t>(options_.warmup_seconds * 1e9);
    while (now_ns() < end) crowd_.poll();
  }

  void measure() override {
    if (quota_ != 0) {
      start_all(quota_);
      while (under_way_ > 0) crowd_.poll();
      return;
    }
    // The warm-up's batches are still under way: the load never stops.
    const auto end = now_ns() + static_cast<std::uint64_t>(options_.seconds * 1e9);
    while (now_ns() < end) crowd_.poll();
  }

  const char* loop() const override { return "closed"; }

  void start_all(std::uint64_t batches) {
    for (Client& client : clients_) {
      loops_[client.index].left = batches;
      start_batch(client);
    }
  }

  void start_batch(Client& client) {
    loops_[client.index].sent_ns = now_ns();
    send_batch(client);
  }

  void on_batch(Client& client) override {
    Loop& loop = loops_[client.index];
    if (loop.left == 0) return;  // of echo_once()
    count(loop.sent_ns);
    if (--loop.left > 0) start_batch(client);
  }

  const std::uint64_t quota_;  // batches for each connection; 0: as many as the time allows
  std::vector<Loop> loops_;
};

// ---- Open

class OpenLoop : public Echo {
 public:
  explicit OpenLoop(const Options& options)
      : Echo(options),
        between_ns_(1e9 * static_cast<double>(options.pipeline) / options.rate),
        returned_(options.connections) {
    // The kernel may wake up a sleeper 50 us late unless told otherwise.
    prctl(PR_SET_TIMERSLACK, 1UL);
  }

 private:
  void warm_up() override { send_for(options_.warmup_seconds); }
  void measure() override { send_for(options_.seconds); }
  const char* loop() const override { return "open"; }

  // Connections take turns. Ends when the last has its echo.
  void send_for(double seconds) {
    const auto batches = static_cast<std::uint64_t>(seconds * 1e9 / between_ns_);
    std::ranges::fill(returned_, 0);
    start_ns_ = now_ns();
    for (std::uint64_t next = 0; next < batches;) {
      const std::uint64_t now = now_ns();
      if (const std::uint64_t due = due_ns(next); due > now) {
        crowd_.poll(due - now);
        continue;
      }
      send_batch(clients_[next++ % clients_.size()]);
      // Also when all of them are late, what has come is not left lying.
      if (next % reads_every == 0) crowd_.poll(0);
    }
    while (under_way_ > 0) crowd_.poll();
  }

  std::uint64_t due_ns(std::uint64_t number) const {
    return start_ns_ + static_cast<std::uint64_t>(static_cast<double>(number) * between_ns_);
  }

  void on_batch(Client& client) override {
    const std::uint64_t turn = returned_[client.index]++;
    count(due_ns(turn * clients_.size() + client.index));
  }

  static constexpr std::uint64_t reads_every = 64;

  const double between_ns_;  // two batches, of whatever connections
  std::uint64_t start_ns_ = 0;
  std::vector<std::uint64_t> returned_;  // batches of each connection
};

}  // namespace

void run_echo(const Options& options) {
  if (options.rate > 0) return OpenLoop(options).run();
  ClosedLoop(options).run();
}

}  // namespace load
