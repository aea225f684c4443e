#include "echoes.h"

#include <algorithm>
#include <cstring>

namespace load {

Echoes::Echoes(const Options& options)
    : options_(options),
      crowd_(options),
      clients_(options.connections),
      batches_(make_batches(options)),
      states_(options.connections) {
  for (std::uint32_t i = 0; i < clients_.size(); ++i) clients_[i].index = i;
}

void Echoes::open_all() {
  crowd_.open_all(clients_, *this);
}

void Echoes::on_open(Client& client) {
  if (options_.deflate) states_[client.index].inflation = std::make_unique<Inflation>();
}

void Echoes::echo_once() {
  for (Client& client : clients_) send_batch(client);
  while (under_way_ > 0) crowd_.poll();
}

// ---- Sending

void Echoes::send_batch(Client& client) {
  State& state = states_[client.index];
  ++state.given;
  ++under_way_;
  if (!client.watches_output) send_some(client, state);
}

void Echoes::send_some(Client& client, State& state) {
  while (state.sent < state.given) {
    const Buffer& request = batch(client, state.sent).request;
    state.bytes_sent +=
        crowd_.write(client, request.data() + state.bytes_sent, request.size() - state.bytes_sent);
    if (state.bytes_sent < request.size()) return;
    state.bytes_sent = 0;
    ++state.sent;
  }
}

void Echoes::on_writable(Client& client) {
  send_some(client, states_[client.index]);
}

// ---- Receiving

void Echoes::on_bytes(Client& client, std::uint8_t* bytes, std::size_t size) {
  State& state = states_[client.index];
  if (!options_.stream && !options_.deflate) return compare(client, state, bytes, size);
  if (state.unframer.between_frames()) {
    const std::size_t pings = crowd_.answer_pings(client, bytes, size);
    bytes += pings;
    size -= pings;
  }
  take_content(state, bytes, size);
  compare(client, state, content_.data(), content_.size());
}

// Messages whose bytes are not known beforehand, but what they say.
void Echoes::take_content(State& state, std::uint8_t* bytes, std::size_t size) {
  content_.clear();
  while (size > 0) {
    const Unframer::Piece piece = state.unframer.next(bytes, size);
    if (state.inflation != nullptr) {
      state.inflation->append(piece, content_);
      compressed_bytes_ += piece.size;
    } else {
      content_.insert(content_.end(), piece.bytes, piece.bytes + piece.size);
    }
  }
}

void Echoes::compare(Client& client, State& state, const std::uint8_t* bytes, std::size_t size) {
  while (size > 0) {
    const std::size_t used = compare_some(client, state, bytes, size);
    bytes += used;
    size -= used;
  }
}

std::size_t Echoes::compare_some(Client& client, State& state, const std::uint8_t* bytes,
                                 std::size_t size) {
  const bool frames = !options_.raw && !options_.stream && !options_.deflate;
  if (frames && state.bytes_returned == 0) {
    if (const std::size_t pings = crowd_.answer_pings(client, bytes, size); pings > 0) return pings;
  }
  if (state.returned == state.given) die("bytes that nobody asked for");
  const Buffer& response = batch(client, state.returned).response;
  const std::size_t count = std::min(size, response.size() - state.bytes_returned);
  if (std::memcmp(response.data() + state.bytes_returned, bytes, count) != 0) {
    die("an echo is not what was sent");
  }
  state.bytes_returned += count;
  if (state.bytes_returned < response.size()) return count;
  state.bytes_returned = 0;
  ++state.returned;
  --under_way_;
  on_batch(client);
  return count;
}

}  // namespace load
