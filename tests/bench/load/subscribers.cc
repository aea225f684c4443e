// Connections that wait for what is published. Whoever publishes is on the other end of the pipes:
//
//   <- {"ready": true}                all are open
//   -> publish TEXT                   what every one of them will get
//   <- {"armed": true}                from now on it may come
//   -> published NANOSECONDS          when (CLOCK_MONOTONIC) it was given to the server
//   <- {"deliveries": N, ...}         when all have it; then `publish` again, or the end of stdin
//
// With --deflate the route has to be one without context takeover, in which all may get the same
// bytes; `distinct_frames` says how many different ones they were.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "crowd.h"
#include "deflate.h"
#include "frames.h"
#include "modes.h"
#include "report.h"

namespace load {
namespace {

class Subscribers : public Handler {
 public:
  explicit Subscribers(const Options& options)
      : crowd_(options),
        clients_(options.connections),
        states_(options.connections),
        meter_(options) {
    for (std::uint32_t i = 0; i < clients_.size(); ++i) clients_[i].index = i;
  }

  void run() {
    crowd_.open_all(clients_, *this);
    Line().add("ready", true).print();
    while (const auto line = crowd_.wait_for_line()) {
      expected_ = argument_of(*line, "publish ");
      await_all();
    }
  }

 private:
  struct State {
    Unframer unframer;
    Buffer content;  // of a frame, as far as it has come
    std::uint64_t delivered_ns = 0;
  };
  struct Frame {
    std::uint8_t first_byte;
    Buffer content;
    bool operator==(const Frame&) const = default;
  };

  static std::string argument_of(const std::string& line, std::string_view word) {
    if (!line.starts_with(word)) die("not understood: " + line);
    return line.substr(word.size());
  }

  void await_all() {
    verified_.clear();
    waiting_ = clients_.size();
    meter_.start();
    Line().add("armed", true).print();
    while (waiting_ > 0) crowd_.poll();
    const auto line = crowd_.wait_for_line();
    meter_.stop();
    if (line) report(std::stoull(argument_of(*line, "published ")));
  }

  void report(std::uint64_t published_ns) const {
    Histogram latencies;
    std::uint64_t first = UINT64_MAX;
    for (const State& state : states_) {
      const std::uint64_t taken = state.delivered_ns - std::min(published_ns, state.delivered_ns);
      latencies.add(taken);
      first = std::min(first, taken);
    }
    Line line = meter_.figures("deliveries", clients_.size(), latencies);
    line.add("first_us", static_cast<double>(first) / 1e3)
        .add("distinct_frames", std::uint64_t{verified_.size()});
    line.print();
  }

  // ---- Clients

  void on_open(Client&) override {}

  void on_bytes(Client& client, std::uint8_t* bytes, std::size_t size) override {
    State& state = states_[client.index];
    while (size > 0) {
      if (state.unframer.between_frames()) {
        const std::size_t pings = crowd_.answer_pings(client, bytes, size);
        bytes += pings;
        size -= pings;
      }
      const Unframer::Piece piece = state.unframer.next(bytes, size);
      state.content.insert(state.content.end(), piece.bytes, piece.bytes + piece.size);
      if (piece.frame_end) on_frame(state);
    }
  }

  void on_frame(State& state) {
    if (waiting_ == 0) die("a message that was not published");
    Frame frame{state.unframer.first_byte(), std::move(state.content)};
    // What was compared once need not be inflated and compared again.
    if (std::ranges::find(verified_, frame) == verified_.end()) {
      verify(frame);
      verified_.push_back(frame);
    }
    state.content = std::move(frame.content);
    state.content.clear();
    state.delivered_ns = now_ns();
    --waiting_;
  }

  void verify(Frame& frame) const {
    Buffer content;
    if (frame.first_byte == compressed_text_frame) {
      Inflation().append({frame.content.data(), frame.content.size(), true}, content);
    } else if (frame.first_byte == text_frame) {
      content = frame.content;
    }
    if (!std::ranges::equal(content, expected_, {}, {},
                            [](char c) { return static_cast<std::uint8_t>(c); })) {
      die("a message is not what was published");
    }
  }

  Crowd crowd_;
  std::vector<Client> clients_;
  std::vector<State> states_;
  Meter meter_;
  std::string expected_;
  std::vector<Frame> verified_;
  std::size_t waiting_ = 0;
};

}  // namespace

void run_subscribers(const Options& options) {
  Subscribers(options).run();
}

}  // namespace load
