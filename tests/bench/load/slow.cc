#include "slow.h"

namespace load {

SlowReaders::SlowReaders(const Options& options, Crowd& crowd)
    : crowd_(crowd),
      batch_(make_batches(options).front()),
      clients_(options.slow),
      sent_(options.slow) {
  for (std::uint32_t i = 0; i < clients_.size(); ++i) clients_[i].index = i;
}

// Nothing tells that a socket will not be writable for a long time, so here a time is the thing
// itself: whoever is served at all is served within it.
void SlowReaders::open_and_fill() {
  if (clients_.empty()) return;
  constexpr std::uint64_t quiet_ns = 300'000'000;
  crowd_.open_all(clients_, *this);
  std::uint64_t seen = bytes_sent_;
  std::uint64_t since = now_ns();
  while (now_ns() - since < quiet_ns) {
    crowd_.poll(quiet_ns);
    if (bytes_sent_ == seen) continue;
    seen = bytes_sent_;
    since = now_ns();
  }
}

void SlowReaders::on_open(Client& client) {
  crowd_.watch_input(client, false);
  on_writable(client);
}

void SlowReaders::on_bytes(Client&, std::uint8_t*, std::size_t) {}

// Not more than one batch a turn: the others are on the same thread.
void SlowReaders::on_writable(Client& client) {
  std::size_t& sent = sent_[client.index];
  const Buffer& request = batch_.request;
  const std::size_t count = crowd_.write(client, request.data() + sent, request.size() - sent);
  bytes_sent_ += count;
  sent += count;
  if (sent < request.size() || client.fd < 0) return;
  sent = 0;
  crowd_.watch_output(client, true);
}

void SlowReaders::on_end(Client&, const std::string&) {
  ++closed_;
}

}  // namespace load
