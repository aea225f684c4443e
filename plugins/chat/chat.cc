// Sends every message to everybody who is in the same room, for a route like /chat/{room}.
// Each worker has rooms of its own, so it wants `workers: 1`.
#include <map>
#include <set>
#include <sluice/plugin.hpp>
#include <string>

using Room = std::set<sluice::Socket*>;
using Rooms = std::map<std::string, Room>;

class Chat : public sluice::Socket {
 public:
  explicit Chat(Rooms& rooms) : rooms_(rooms) {}

  void on_open(const sluice::Request& request) override {
    name_ = request.parameter("room");
    if (name_.empty()) return reject(404, "no room");
    rooms_[name_].insert(this);
    accept();
  }

  void on_message(sluice::Message message) override {
    for (sluice::Socket* member : rooms_[name_]) member->send(message);
  }

  void on_close(const sluice::CloseEvent&) override {
    Room& room = rooms_[name_];
    room.erase(this);
    if (room.empty()) rooms_.erase(name_);
  }

 private:
  Rooms& rooms_;
  std::string name_;
};

SLUICE_PLUGIN(Chat, Rooms)
