// Clients that send batches and compare what comes back.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "batch.h"
#include "crowd.h"
#include "deflate.h"
#include "frames.h"

namespace load {

class Echoes : public Handler {
 public:
  explicit Echoes(const Options& options);

  void open_all();
  // One batch on each connection, until all of them have come back.
  void echo_once();

  void on_open(Client& client) override;
  void on_bytes(Client& client, std::uint8_t* bytes, std::size_t size) override;
  void on_writable(Client& client) override;

 protected:
  // Sends one batch more, at once if there is room.
  void send_batch(Client& client);
  // All of a batch has come back, the oldest that was sent.
  virtual void on_batch(Client& client) = 0;

  const Options& options_;
  Crowd crowd_;
  std::vector<Client> clients_;
  std::uint64_t under_way_ = 0;         // batches that were given to send_batch() and are not back
  std::uint64_t compressed_bytes_ = 0;  // payloads that came, before they were inflated

 private:
  // Which batch it is follows from its number: they take turns.
  struct State {
    std::uint64_t given = 0;     // batches to send
    std::uint64_t sent = 0;      // those that have left whole
    std::uint64_t returned = 0;  // those that have come back whole
    std::size_t bytes_sent = 0;  // of the next one
    std::size_t bytes_returned = 0;
    Unframer unframer;
    std::unique_ptr<Inflation> inflation;  // null: not compressed
  };

  const Batch& batch(const Client& client, std::uint64_t number) const {
    return batches_[(client.index + number) % batches_.size()];
  }
  void send_some(Client& client, State& state);
  void take_content(State& state, std::uint8_t* bytes, std::size_t size);
  void compare(Client& client, State& state, const std::uint8_t* bytes, std::size_t size);
  std::size_t compare_some(Client& client, State& state, const std::uint8_t* bytes,
                           std::size_t size);

  const std::vector<Batch> batches_;
  std::vector<State> states_;
  Buffer content_;  // of what came, without headers
};

}  // namespace load
