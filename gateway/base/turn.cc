#include "base/turn.h"

#include <utility>

namespace sluice {

Turn::Entry::~Entry() {
  if (turn_ == nullptr) return;
  // The entry is in the list that grows, or in the one that is being called.
  if (place_ < turn_->woken_.size() && turn_->woken_[place_] == this) {
    turn_->woken_[place_] = nullptr;
  } else {
    turn_->calling_[place_] = nullptr;
  }
}

void Turn::wake(Entry& entry) {
  if (entry.turn_ != nullptr) return;
  entry.turn_ = this;
  entry.place_ = woken_.size();
  woken_.push_back(&entry);
}

void Turn::retire(std::unique_ptr<Mortal> mortal) {
  if (mortal != nullptr) retired_.push_back(std::move(mortal));
}

void Turn::run_woken() {
  calling_.swap(woken_);
  for (std::size_t i = 0; i < calling_.size(); ++i) {
    Entry* const entry = std::exchange(calling_[i], nullptr);
    if (entry == nullptr) continue;
    entry->turn_ = nullptr;
    entry->on_turn_end();
  }
  calling_.clear();
}

bool Turn::bury() {
  if (retired_.empty()) return false;
  const auto buried = std::exchange(retired_, {});
  return true;
}

}  // namespace sluice
