// Channels: who of one worker's clients listens to what. Publisher: hands what is published to the
// channels of all workers, and adds up what became of it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/log.h"
#include "base/timer_wheel.h"
#include "bridges/grip.h"
#include "relay.h"
#include "uv/loop.h"
#include "ws/prepared_message.h"

namespace sluice::bridges {

// What became of what was published, over all of its receivers: matched is the sum of the others.
struct Receipt {
  std::uint64_t matched = 0;  // connections subscribed to the channel, after filters
  std::uint64_t written = 0;  // to connections of which the kernel has taken everything since
  std::uint64_t queued = 0;   // in bufferedAmount, or held until the item before it comes
  std::uint64_t dropped = 0;  // by a limit, a slow consumer's policy, or since the socket closes

  Receipt& operator+=(const Receipt& other);
  bool operator==(const Receipt&) const = default;
};

class Channels;

// A connection that may listen to channels. Leaves all of them when it is destroyed.
class Subscriber {
 public:
  static constexpr std::size_t subscriptions_max = 20;

  explicit Subscriber(Channels& channels);
  virtual ~Subscriber();
  Subscriber(const Subscriber&) = delete;
  Subscriber& operator=(const Subscriber&) = delete;

  // Anew: with other filters. Returns false, and does nothing, if there are too many already.
  bool subscribe(const std::string& channel, std::vector<std::string> filters);
  void unsubscribe(const std::string& channel);
  void unsubscribe_all();
  const std::set<std::string, std::less<>>& subscriptions() const { return subscriptions_; }

  enum class Outcome : std::uint8_t { filtered, dropped, sent };

 protected:
  friend class Channels;
  // May not subscribe, unsubscribe or destroy anybody. `message`: the item's content, for those who
  // get it as it is.
  virtual Outcome deliver(const Published& item, ws::PreparedMessage& message,
                          const std::vector<std::string>& filters) = 0;
  // After the flush: whether everything that was sent has left.
  virtual bool flushed() const = 0;

 private:
  Channels& channels_;
  const std::uint64_t number_;
  std::set<std::string, std::less<>> subscriptions_;
};

// One a worker, on its thread; outlives its bridges.
//
// Items that say which one was before them are put in order: one that comes too early waits for the
// other, up to hold_ms, and what came within the last minute is not delivered again. What is
// remembered for that is bounded: over a bound, items are rather early than lost. It is remembered
// as long as somebody listens to the channel.
class Channels final : private TimerWheel::Entry {
 public:
  static constexpr std::uint64_t hold_ms = 5'000;
  static constexpr std::uint64_t remember_ms = 60'000;
  static constexpr std::size_t remembered_max = 100;               // ids of one channel
  static constexpr std::size_t held_max = 1'000;                   // items of all channels
  static constexpr std::size_t held_bytes_max = 16 * 1024 * 1024;  // of their texts

  Channels();
  ~Channels() override;
  // The worker's clock; before the first subscriber.
  void use(TimerWheel& wheel) { wheel_ = &wheel; }

  // What was sent can be counted only after the flush at the end of the turn.
  struct Delivery {
    Receipt receipt;
    std::vector<std::uint64_t> sent_to;  // numbers of subscribers
  };
  // Delivers to every subscriber of the item's channel.
  Delivery publish(const Published& item);
  Receipt settle(const Delivery& delivery) const;

 private:
  friend class Subscriber;
  struct Remembered {
    std::string id;
    std::uint64_t until_ms;
    bool delivered;  // and not only held
  };
  struct Held {
    std::shared_ptr<const Published> item;
    std::uint64_t due_ms;
  };
  struct Channel {
    std::map<Subscriber*, std::vector<std::string>> subscribers;
    std::string last_id;  // empty: none is known
    std::deque<Remembered> remembered;
    std::deque<Held> held;  // in the order of their deadlines
  };

  void on_deadline() override;
  std::uint64_t add(Subscriber& subscriber);
  void remove(std::uint64_t number);
  void join(const std::string& channel, Subscriber& subscriber, std::vector<std::string> filters);
  void leave(const std::string& name, Subscriber& subscriber);

  bool is_known(Channel& channel, const std::string& id);
  static bool is_late(const Channel& channel, const Published& item);
  bool must_wait(const Channel& channel, const Published& item) const;
  void hold(Channel& channel, const Published& item);
  std::shared_ptr<const Published> take_held(Channel& channel, std::size_t place);
  void release_followers(Channel& channel, const std::string& id);
  Delivery deliver_in_order(Channel& channel, const Published& item);
  Delivery deliver(Channel& channel, const Published& item);
  void arm();

  TimerWheel* wheel_ = nullptr;
  std::map<std::string, Channel, std::less<>> channels_;  // those that somebody listens to
  std::unordered_map<std::uint64_t, Subscriber*> subscribers_;
  std::uint64_t last_number_ = 0;
  std::size_t held_count_ = 0;
  std::size_t held_bytes_ = 0;
};

// On the admin listener's thread; lives as long as the gateway.
class Publisher {
 public:
  using Items = std::shared_ptr<const std::vector<Published>>;

  // Before the first publish(): a worker's loop and channels.
  void add(uv::Loop& loop, Channels& channels);
  // Calls `done` on `home`'s thread once all workers have answered, never from inside the call.
  void publish(const Items& items, uv::Loop& home, std::function<void(Receipt)> done);
  // The workers end: what is published from now on reaches nobody.
  void close() { workers_.clear(); }

 private:
  struct Worker {
    uv::Loop* loop;
    Channels* channels;
  };
  std::vector<Worker> workers_;
};

// Publishers that were refused, and when the log tells of them.
struct Refusals {
  std::uint64_t count = 0;
  log::Throttle log;
};

// Serves POST /publish/ on the admin listener, whose loop is `home` (bridges/publish.h). `key`:
// Config::Admin::key.
class PublishRelayFactory final : public RelayFactory {
 public:
  PublishRelayFactory(Publisher& publisher, uv::Loop& home, std::string key);
  std::unique_ptr<Relay> create() override;

 private:
  Publisher& publisher_;
  uv::Loop& home_;
  const std::string key_;
  Refusals refusals_;
};

}  // namespace sluice::bridges
