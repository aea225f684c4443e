// A reader that stops when it is told to. The page says, as text:
//   "pause"              this socket is not read any more; the answer is "paused"
//   "resume"             all paused sockets are read again: said on another socket, of course
//   "total"              how many bytes of binary messages this socket has brought
//   "close CODE REASON"  close this socket
// Each worker has its own, so it wants `workers: 1`.
#include <cstdlib>
#include <sluice/plugin.hpp>
#include <string>
#include <vector>

using Paused = std::vector<sluice::Handle>;

class Valve : public sluice::Socket {
 public:
  explicit Valve(Paused& paused) : paused_(paused) {}

  void on_message(sluice::Message message) override {
    if (message.is_binary()) {
      total_ += message.data().size();
      return;
    }
    const std::string text(message.data());
    if (text == "pause") stop();
    if (text == "resume") resume_all();
    if (text == "total") send(std::to_string(total_));
    if (text.rfind("close ", 0) == 0) close(std::atoi(text.c_str() + 6), text.substr(11));
  }

 private:
  void stop() {
    send("paused");
    pause();
    paused_.push_back(handle());
  }

  void resume_all() {
    for (const sluice::Handle& socket : paused_) socket.resume();
    paused_.clear();
  }

  Paused& paused_;
  std::size_t total_ = 0;
};

SLUICE_PLUGIN(Valve, Paused)
