// FakeTransport: a Transport whose kernel is a number, how many more bytes it takes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "net/transport.h"

namespace sluice::test {

class FakeTransport final : public net::Transport {
 public:
  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

  explicit FakeTransport(ChunkPool& pool) : Transport(pool), pool_(pool) {}

  void set_owner(Owner& owner_now) override { owner = &owner_now; }
  void read(bool wanted) override { reading = wanted; }
  void tell_resets_at_once() override {}
  void flush() override {
    ++flushes;
    if (on_flush) on_flush();
    const std::size_t count = std::min(room, output_.size());
    taken += output_.to_string().substr(0, count);
    output_.consume(count);
    taken_bytes_ += static_cast<std::uint32_t>(count);
    if (room != unlimited) room -= count;
    blocked_ = !output_.empty();
  }
  Bytes lend(Bytes bytes) override {
    if (!blocked_) flush();
    output_.keep();
    return pool_.lend(bytes);
  }
  void shutdown() override { shut_down = true; }
  void reset_on_close() override { reset = true; }
  net::SendProgress progress() const override { return sending; }
  bool has_unread() const override { return false; }
  net::Endpoint local_endpoint() const override { return local; }
  Result<net::Address> peer_address() const override { return fail("there is none"); }
  void set_user_timeout(TimerWheel&, std::uint64_t timeout_ms) override {
    user_timeout_ms = timeout_ms;
  }
  bool blocked() const override { return blocked_; }
  std::uint32_t taken_bytes() const override { return taken_bytes_; }
  bool write_failed() const override { return false; }
  std::size_t encrypted_bytes() const override { return encrypted; }

  Owner* owner = nullptr;  // whoever was set last; the test tells it what happens
  bool reading = true;
  std::size_t room = unlimited;  // how much the kernel still takes
  std::size_t encrypted = 0;     // what TLS says it holds
  std::string taken;             // by the kernel, not yet by the test
  int flushes = 0;
  bool shut_down = false;
  bool reset = false;
  std::uint64_t user_timeout_ms = 0;
  net::SendProgress sending;       // what the kernel says of the peer
  net::Endpoint local;             // our end
  std::function<void()> on_flush;  // what happens first

 private:
  ChunkPool& pool_;
  bool blocked_ = false;
  std::uint32_t taken_bytes_ = 0;
};

}  // namespace sluice::test
