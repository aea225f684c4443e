// Turn: what is still to be done before the loop sleeps.
//
// Whoever cannot act inside of the event that it is in asks to be called at the end of the turn:
// to tell an owner of a failure, to flush what was gathered, to be destroyed. One a worker; on its
// thread only.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace sluice {

class Turn {
 public:
  // Something that can be called at the end of the turn. Forgets the call when destroyed.
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    virtual ~Entry();

    virtual void on_turn_end() = 0;

   private:
    friend class Turn;
    Turn* turn_ = nullptr;  // not null: in the list, at place_
    std::size_t place_ = 0;
  };

  // Something that is to be destroyed, but not inside of an event of its own.
  class Mortal {
   public:
    virtual ~Mortal() = default;
  };

  // Calls entry.on_turn_end() once, at the end of this turn. Asking again changes nothing.
  void wake(Entry& entry);
  // Destroys it once everything that was woken has been called.
  void retire(std::unique_ptr<Mortal> mortal);

  // One round: calls those who were woken up to now; whoever they wake waits for the next round.
  void run_woken();
  // Destroys what was retired. Returns false if there was nothing.
  bool bury();
  bool has_woken() const { return !woken_.empty(); }
  bool idle() const { return woken_.empty() && retired_.empty(); }

 private:
  std::vector<Entry*> woken_;    // null: forgotten
  std::vector<Entry*> calling_;  // of the present round
  std::vector<std::unique_ptr<Mortal>> retired_;
};

}  // namespace sluice
