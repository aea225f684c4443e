// Connections that are opened, upgraded, closed with a closing handshake, and opened again.
#include <cstring>
#include <string>

#include "crowd.h"
#include "frames.h"
#include "modes.h"
#include "report.h"

namespace load {
namespace {

class Handshakes : public Handler {
 public:
  explicit Handshakes(const Options& options)
      : options_(options),
        crowd_(options),
        clients_(options.connections),
        closed_bytes_(options.connections),
        meter_(options) {
    for (std::uint32_t i = 0; i < clients_.size(); ++i) clients_[i].index = i;
  }

  void run() {
    if (options_.resume) take_tickets();
    open_and_reopen(options_.warmup_seconds);
    handshakes_ = resumed_ = 0;
    latencies_.clear();
    meter_.start();
    open_and_reopen(options_.seconds);
    meter_.stop();
    if (options_.tls) check_resumed();
    Line line = meter_.figures("handshakes", handshakes_, latencies_);
    if (options_.tls) line.add("resumed", resumed_);
    line.print();
  }

 private:
  // Of connections that are not measured.
  void take_tickets() {
    open_and_reopen(0);
    if (!crowd_.tls()->has_tickets()) die("the server sends no tickets");
  }

  // A full handshake costs so much more that a few of them would be most of the figure.
  void check_resumed() const {
    const std::uint64_t expected = options_.resume ? handshakes_ : 0;
    if (resumed_ == expected) return;
    die(std::to_string(resumed_) + " of " + std::to_string(handshakes_) + " were resumed");
  }

  void open_and_reopen(double seconds) {
    const auto end = now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
    reopening_ = true;
    there_ = clients_.size();
    for (Client& client : clients_) crowd_.open(client, *this);
    while (now_ns() < end) crowd_.poll();
    reopening_ = false;
    while (there_ > 0) crowd_.poll();
  }

  void on_open(Client& client) override {
    latencies_.add(now_ns() - client.opened_ns);
    if (client.ssl != nullptr && SSL_session_reused(client.ssl) == 1) ++resumed_;
    closed_bytes_[client.index] = 0;
    crowd_.write_small(client, close_request.data(), close_request.size());
  }

  void on_bytes(Client& client, std::uint8_t* bytes, std::size_t size) override {
    std::size_t& received = closed_bytes_[client.index];
    if (size > close_response.size() - received ||
        std::memcmp(close_response.data() + received, bytes, size) != 0) {
      die("the Close frame is not what was expected");
    }
    received += size;
  }

  // RFC 6455 7.1.1: the server closes first.
  void on_end(Client& client, const std::string& why) override {
    if (!why.empty()) die(why);
    if (closed_bytes_[client.index] != close_response.size()) {
      die("the server closed a connection");
    }
    ++handshakes_;
    if (reopening_) {
      crowd_.open(client, *this);
    } else {
      --there_;
    }
  }

  const Options& options_;
  Crowd crowd_;
  std::vector<Client> clients_;
  std::vector<std::size_t> closed_bytes_;  // of the answer to each Close frame
  Meter meter_;
  Histogram latencies_;  // from connect() to the 101
  std::uint64_t handshakes_ = 0;
  std::uint64_t resumed_ = 0;
  std::size_t there_ = 0;
  bool reopening_ = true;
};

}  // namespace

void run_handshakes(const Options& options) {
  Handshakes(options).run();
}

}  // namespace load
