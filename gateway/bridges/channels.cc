#include "bridges/channels.h"

#include <algorithm>
#include <utility>

namespace sluice::bridges {
namespace {

std::size_t size_of(const Published& item) {
  std::size_t size = sizeof(Published) + item.channel.size() + item.id.size() +
                     item.previous_id.value_or("").size() + item.content.bytes.size() +
                     item.reason.size();
  for (const auto& [name, value] : item.meta) size += name.size() + value.size();
  return size;
}

}  // namespace

Receipt& Receipt::operator+=(const Receipt& other) {
  matched += other.matched;
  written += other.written;
  queued += other.queued;
  dropped += other.dropped;
  return *this;
}

// ---- Subscriber

Subscriber::Subscriber(Channels& channels) : channels_(channels), number_(channels.add(*this)) {}

Subscriber::~Subscriber() {
  unsubscribe_all();
  channels_.remove(number_);
}

bool Subscriber::subscribe(const std::string& channel, std::vector<std::string> filters) {
  if (!subscriptions_.contains(channel) && subscriptions_.size() >= subscriptions_max) return false;
  subscriptions_.insert(channel);
  channels_.join(channel, *this, std::move(filters));
  return true;
}

void Subscriber::unsubscribe(const std::string& channel) {
  if (subscriptions_.erase(channel) > 0) channels_.leave(channel, *this);
}

void Subscriber::unsubscribe_all() {
  for (const std::string& channel : std::exchange(subscriptions_, {})) {
    channels_.leave(channel, *this);
  }
}

// ---- Channels

Channels::Channels() = default;
Channels::~Channels() = default;

std::uint64_t Channels::add(Subscriber& subscriber) {
  subscribers_[++last_number_] = &subscriber;
  return last_number_;
}

void Channels::remove(std::uint64_t number) {
  subscribers_.erase(number);
}

void Channels::join(const std::string& channel, Subscriber& subscriber,
                    std::vector<std::string> filters) {
  channels_[channel].subscribers[&subscriber] = std::move(filters);
}

void Channels::leave(const std::string& name, Subscriber& subscriber) {
  const auto found = channels_.find(name);
  if (found == channels_.end()) return;
  Channel& channel = found->second;
  channel.subscribers.erase(&subscriber);
  if (!channel.subscribers.empty()) return;
  while (!channel.held.empty()) take_held(channel, 0);
  channels_.erase(found);
}

Channels::Delivery Channels::publish(const Published& item) {
  const auto found = channels_.find(item.channel);
  if (found == channels_.end()) return {};
  Channel& channel = found->second;
  if (!item.sequenced) return deliver(channel, item);
  if (is_known(channel, item.id)) return {};
  if (must_wait(channel, item)) {
    Delivery delivery;
    delivery.receipt.matched = delivery.receipt.queued = channel.subscribers.size();
    hold(channel, item);
    return delivery;
  }
  Delivery delivery = deliver_in_order(channel, item);
  release_followers(channel, item.id);
  return delivery;
}

// Those behind it may follow: one that is late, behind those that did not wait for it any more, has
// no say in who is next, but others may be late with it.
Channels::Delivery Channels::deliver_in_order(Channel& channel, const Published& item) {
  if (!item.id.empty()) {
    if (!is_late(channel, item)) channel.last_id = item.id;
    const auto remembered = std::ranges::find(channel.remembered, item.id, &Remembered::id);
    if (remembered != channel.remembered.end()) remembered->delivered = true;
  }
  return deliver(channel, item);
}

// Whether the id came before; from now on it did.
bool Channels::is_known(Channel& channel, const std::string& id) {
  if (id.empty()) return false;
  auto& ids = channel.remembered;
  while (!ids.empty() && ids.front().until_ms <= wheel_->now_ms()) ids.pop_front();
  if (std::ranges::find(ids, id, &Remembered::id) != ids.end()) return true;
  if (ids.size() >= remembered_max) ids.pop_front();
  ids.push_back({id, wheel_->now_ms() + remember_ms, false});
  return false;
}

bool Channels::is_late(const Channel& channel, const Published& item) {
  if (!item.previous_id || *item.previous_id == channel.last_id) return false;
  const auto before = std::ranges::find(channel.remembered, *item.previous_id, &Remembered::id);
  return before != channel.remembered.end() && before->delivered;
}

bool Channels::must_wait(const Channel& channel, const Published& item) const {
  return item.previous_id && !channel.last_id.empty() && *item.previous_id != channel.last_id &&
         !is_late(channel, item) && held_count_ < held_max &&
         held_bytes_ + size_of(item) <= held_bytes_max;
}

// A copy: the others that were published with it need not stay for its sake.
void Channels::hold(Channel& channel, const Published& item) {
  ++held_count_;
  held_bytes_ += size_of(item);
  channel.held.push_back({std::make_shared<const Published>(item), wheel_->now_ms() + hold_ms});
  if (due_ms() == TimerWheel::never) wheel_->set(*this, wheel_->now_ms() + hold_ms);
}

std::shared_ptr<const Published> Channels::take_held(Channel& channel, std::size_t place) {
  const auto held = channel.held.begin() + static_cast<std::ptrdiff_t>(place);
  auto item = std::move(held->item);
  channel.held.erase(held);
  held_bytes_ -= size_of(*item);
  if (--held_count_ == 0) wheel_->set(*this, TimerWheel::never);
  return item;
}

// Those that wait for the item of this id, which was delivered, those that wait for them, and so
// on.
void Channels::release_followers(Channel& channel, const std::string& id) {
  std::deque<std::string> delivered;
  if (!id.empty()) delivered.push_back(id);
  for (; !delivered.empty() && !channel.held.empty(); delivered.pop_front()) {
    for (std::size_t i = 0; i < channel.held.size();) {
      if (*channel.held[i].item->previous_id != delivered.front()) {
        ++i;
        continue;
      }
      const auto item = take_held(channel, i);
      deliver_in_order(channel, *item);
      if (!item->id.empty()) delivered.push_back(item->id);
    }
  }
}

// The items before those that are due did not come: these go without them.
void Channels::on_deadline() {
  for (auto& [name, channel] : channels_) {
    while (!channel.held.empty() && channel.held.front().due_ms <= wheel_->now_ms()) {
      const auto item = take_held(channel, 0);
      deliver_in_order(channel, *item);
      release_followers(channel, item->id);
    }
  }
  arm();
}

void Channels::arm() {
  std::uint64_t due = TimerWheel::never;
  for (const auto& [name, channel] : channels_) {
    if (!channel.held.empty()) due = std::min(due, channel.held.front().due_ms);
  }
  wheel_->set(*this, due);
}

Channels::Delivery Channels::deliver(Channel& channel, const Published& item) {
  Delivery delivery;
  ws::PreparedMessage message(item.content.message_type(), as_bytes(item.content.bytes),
                              channel.subscribers.size());
  for (const auto& [subscriber, filters] : channel.subscribers) {
    switch (subscriber->deliver(item, message, filters)) {
      case Subscriber::Outcome::filtered:
        break;
      case Subscriber::Outcome::dropped:
        ++delivery.receipt.matched;
        ++delivery.receipt.dropped;
        break;
      case Subscriber::Outcome::sent:
        ++delivery.receipt.matched;
        delivery.sent_to.push_back(subscriber->number_);
    }
  }
  return delivery;
}

Receipt Channels::settle(const Delivery& delivery) const {
  Receipt receipt = delivery.receipt;
  for (const std::uint64_t number : delivery.sent_to) {
    const auto found = subscribers_.find(number);
    if (found == subscribers_.end()) {
      ++receipt.dropped;  // it has gone since, and nobody knows how much it got
    } else if (found->second->flushed()) {
      ++receipt.written;
    } else {
      ++receipt.queued;
    }
  }
  return receipt;
}

// ---- Publisher

void Publisher::add(uv::Loop& loop, Channels& channels) {
  workers_.push_back({&loop, &channels});
}

void Publisher::publish(const Items& items, uv::Loop& home, std::function<void(Receipt)> done) {
  struct Round {
    std::size_t missing;
    std::function<void(Receipt)> done;
    Receipt receipt = {};
  };
  if (workers_.empty()) return home.post([done = std::move(done)] { done({}); });
  // Of `home`'s thread, but for the pointer.
  const auto round = std::make_shared<Round>(Round{workers_.size(), std::move(done)});
  const auto count = [round](const Receipt& receipt) {
    round->receipt += receipt;
    if (--round->missing == 0) round->done(round->receipt);
  };
  for (const Worker& worker : workers_) {
    worker.loop->post([worker, items, count, &home] {
      std::vector<Channels::Delivery> deliveries;
      for (const Published& item : *items) {
        deliveries.push_back(worker.channels->publish(item));
      }
      // Posted again: by then this turn has ended and what it sent was flushed.
      worker.loop->post([worker, deliveries = std::move(deliveries), count, &home] {
        Receipt receipt;
        for (const auto& delivery : deliveries) receipt += worker.channels->settle(delivery);
        home.post([count, receipt] { count(receipt); });
      });
    });
  }
}

}  // namespace sluice::bridges
