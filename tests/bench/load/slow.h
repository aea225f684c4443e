// Clients that send and never read.
#pragma once

#include <cstdint>
#include <vector>

#include "batch.h"
#include "crowd.h"

namespace load {

class SlowReaders : public Handler {
 public:
  SlowReaders(const Options& options, Crowd& crowd);

  // Opens them and lets them send until nobody takes anything of them any more.
  void open_and_fill();

  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t closed() const { return closed_; }  // by the server, as some policies have it

  void on_open(Client& client) override;
  void on_bytes(Client& client, std::uint8_t* bytes, std::size_t size) override;
  void on_writable(Client& client) override;
  void on_end(Client& client, const std::string& why) override;

 private:
  Crowd& crowd_;
  const Batch batch_;
  std::vector<Client> clients_;
  std::vector<std::size_t> sent_;  // of the batch that each is sending
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t closed_ = 0;
};

}  // namespace load
