// A stream in memory with a client at its other end: how many bytes the kernel takes, and what of
// the client's bytes arrives when, is the test's choice. Tells its owner what net::Socket tells, in
// the same order.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "fuzz/input.h"
#include "net/transport.h"

namespace sluice::fuzz {

class MemoryTransport;

// What is between the two ends, and outlives both.
struct Wire {
  // ---- The client's doing.
  std::string to_gateway;  // sent, and not read yet
  bool fin = false;        // it sends no more
  bool reset = false;
  std::size_t room = std::numeric_limits<std::size_t>::max();  // what the kernel still takes

  // ---- What it gets to see.
  std::string from_gateway;
  bool ended = false;   // a FIN behind it
  bool broken = false;  // the gateway has reset it

  MemoryTransport* transport = nullptr;  // null once the gateway has let go of it
};

class MemoryTransport final : public net::Transport {
 public:
  MemoryTransport(ChunkPool& pool, Wire& wire) : Transport(pool), wire_(wire) {
    wire.transport = this;
  }
  ~MemoryTransport() override {
    require(!inside_, "no transport is destroyed inside of its own event");
    wire_.transport = nullptr;
  }

  // What the loop has to tell in one turn, with at most `bytes_max` of what the client sent.
  void turn(std::size_t bytes_max) {
    if (wire_.reset && watched()) return meet_reset();
    if (reading_ && !ended_ && !failed_) read_once(bytes_max);
    if (blocked_ && wire_.room > 0 && !failed_) {
      flush();
      if (!failed_) event([&] { owner_->on_sent(); });
    }
  }

  void set_owner(Owner& owner) override { owner_ = &owner; }
  void read(bool wanted) override {
    reading_ = wanted;
    if (!wanted && write_failed_) fail();
  }
  void flush() override {
    blocked_ = false;
    if (failed_ || write_failed_) return output_.clear();
    if (wire_.reset && !output_.empty()) return fail_to_write();
    take();
    blocked_ = !output_.empty();
    if (shutdown_wanted_ && output_.empty()) wire_.ended = true;
  }
  void shutdown() override {
    shutdown_wanted_ = true;
    flush();
  }
  void reset_on_close() override { wire_.broken = true; }
  void set_user_timeout(TimerWheel&, std::uint64_t) override {}
  net::SendProgress progress() const override {
    return {.acknowledged_bytes = wire_.from_gateway.size(), .outstanding = wire_.room == 0};
  }
  bool has_unread() const override { return !wire_.to_gateway.empty(); }
  net::Endpoint local_endpoint() const override { return {}; }
  bool blocked() const override { return blocked_; }
  void tell_resets_at_once() override {}
  Result<net::Address> peer_address() const override { return sluice::fail("it is in memory"); }
  std::uint32_t taken_bytes() const override {
    return static_cast<std::uint32_t>(wire_.from_gateway.size());
  }
  bool write_failed() const override { return write_failed_; }

 private:
  bool watched() const { return !failed_ && ((reading_ && !ended_) || blocked_); }

  // Events do not nest, except for failures that flush() and shutdown() tell of.
  template <typename Tell>
  void event(Tell tell) {
    const bool outer = std::exchange(inside_, true);
    tell();
    inside_ = outer;
  }

  void read_once(std::size_t bytes_max) {
    if (!wire_.to_gateway.empty()) return deliver(bytes_max);
    if (write_failed_) return fail();
    if (!wire_.fin) return;
    ended_ = true;
    event([&] { owner_->on_end(); });
  }
  // In memory that is not valid afterwards.
  void deliver(std::size_t bytes_max) {
    const std::size_t size = std::min(bytes_max, wire_.to_gateway.size());
    const auto memory = std::make_unique<std::uint8_t[]>(size);
    std::memcpy(memory.get(), wire_.to_gateway.data(), size);
    wire_.to_gateway.erase(0, size);
    event([&] { owner_->on_receive({memory.get(), size}); });
  }
  void meet_reset() {
    while (reading_ && !failed_ && !wire_.to_gateway.empty()) deliver(wire_.to_gateway.size());
    fail();
  }
  void take() {
    while (wire_.room > 0 && !output_.empty()) {
      const Bytes front = output_.front();
      const std::size_t size = std::min(wire_.room, front.size());
      wire_.from_gateway += as_text(front.first(size));
      output_.consume(size);
      if (wire_.room != std::numeric_limits<std::size_t>::max()) wire_.room -= size;
    }
  }
  void fail_to_write() {
    write_failed_ = true;
    if (!reading_ || ended_) fail();
    output_.clear();
  }
  void fail() {
    if (failed_) return;
    failed_ = true;
    event([&] { owner_->on_failure(net::FailureKind::reset, Error{"connection reset by peer"}); });
  }

  Wire& wire_;
  Owner* owner_ = nullptr;
  bool reading_ = false;
  bool ended_ = false;
  bool failed_ = false;
  bool write_failed_ = false;
  bool blocked_ = false;
  bool shutdown_wanted_ = false;
  bool inside_ = false;
};

}  // namespace sluice::fuzz
