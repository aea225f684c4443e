// What a gateway sees when a network comes back: all clients are gone at once and come again.
#include <algorithm>

#include "crowd.h"
#include "frames.h"
#include "modes.h"
#include "report.h"

namespace load {
namespace {

class Reconnect : public Handler {
 public:
  explicit Reconnect(const Options& options)
      : options_(options), crowd_(options), clients_(options.connections), meter_(options) {}

  void run() {
    meter_.start();
    while (accepted_ < options_.total) open_some();
    meter_.stop();
    Line line = meter_.figures("handshakes", accepted_, latencies_);
    line.add("connections", std::uint64_t{options_.connections}).add("failures", failures_);
    line.print();
  }

 private:
  void open_some() {
    for (Client& client : clients_) {
      if (client.state == Client::State::open) crowd_.reset(client);
    }
    const std::uint64_t left = options_.total - accepted_;
    crowd_.open_all(std::span(clients_).first(std::min<std::uint64_t>(left, clients_.size())),
                    *this);
  }

  void on_open(Client& client) override {
    ++accepted_;
    latencies_.add(now_ns() - client.opened_ns);
  }

  void on_bytes(Client& client, std::uint8_t* bytes, std::size_t size) override {
    if (crowd_.answer_pings(client, bytes, size) != size) die("bytes that nobody asked for");
  }

  // They are counted, and tried again with the next round.
  void on_end(Client&, const std::string& why) override {
    constexpr std::uint64_t failures_max = 10'000;
    if (++failures_ > failures_max) die("too many failures, the last: " + why);
  }

  const Options& options_;
  Crowd crowd_;
  std::vector<Client> clients_;
  Meter meter_;
  Histogram latencies_;  // from connect() to the 101
  std::uint64_t accepted_ = 0;
  std::uint64_t failures_ = 0;
};

}  // namespace

void run_reconnect(const Options& options) {
  Reconnect(options).run();
}

}  // namespace load
