// Channels: who of one worker's clients listens to what. Publisher: hands what is published to the
// channels of all workers, and adds up what became of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "relay.h"
#include "uv/loop.h"

namespace sluice::bridges {

// What became of a published message, over all of its receivers.
struct Receipt {
  std::uint64_t matched = 0;  // connections subscribed to the channel, after filters
  std::uint64_t written = 0;  // handed to the kernel
  std::uint64_t queued = 0;   // waiting in bufferedAmount
  std::uint64_t dropped = 0;  // by a limit, a slow consumer's policy, or since the socket closes

  Receipt& operator+=(const Receipt& other);
};

// A ws-message as published (shared/websocket-over-http.md has the JSON).
struct Published;

// One a worker, on its thread; outlives its bridges.
class Channels {
 public:
  Channels();
  ~Channels();
  Channels(const Channels&) = delete;
  Channels& operator=(const Channels&) = delete;

  // Delivers to every subscriber of the item's channel.
  Receipt publish(const Published& item);
  // Subscribing and unsubscribing as the bridge needs it.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Any thread; lives as long as the gateway.
class Publisher {
 public:
  // Before the first publish(): a worker's loop and channels.
  void add(uv::Loop& loop, Channels& channels);
  // Calls `done` on `home`'s thread once all workers have answered.
  void publish(std::shared_ptr<const Published> item, uv::Loop& home,
               std::function<void(Receipt)> done);

 private:
  struct Worker {
    uv::Loop* loop;
    Channels* channels;
  };
  std::vector<Worker> workers_;
};

// Serves POST /publish/ on the admin listener, whose loop is `home`. `key`: Config::Admin::key.
class PublishRelayFactory final : public RelayFactory {
 public:
  PublishRelayFactory(Publisher& publisher, uv::Loop& home, std::string key);
  std::unique_ptr<Relay> create() override;

 private:
  Publisher& publisher_;
  uv::Loop& home_;
  std::string key_;
};

}  // namespace sluice::bridges
