// Throws where the query or the message says, and keeps a handle if it is told to.
#define SLUICE_PLUGIN_VERSION "1.2.3"
#include <sluice/plugin.hpp>
#include <stdexcept>
#include <string>
#include <vector>

struct Shared {
  explicit Shared(const sluice::Worker& worker) : worker_(worker) {
    if (worker.config() == "{\"throw\":true}") throw std::runtime_error("thrown by Shared");
  }
  sluice::Worker worker_;
  bool next_constructor_throws_ = false;
  sluice::Handle kept_;
};

class Thrower : public sluice::Socket {
 public:
  explicit Thrower(Shared& shared) : shared_(shared) {
    if (send("too early") || close()) throw std::logic_error("a socket in the constructor");
    if (!shared.next_constructor_throws_) return;
    shared.next_constructor_throws_ = false;
    throw std::runtime_error("thrown by the constructor");
  }
  ~Thrower() override { shared_.worker_.log(sluice::LogLevel::info, "destroyed"); }

  void on_open(const sluice::Request& request) override {
    if (request.query() == "open") throw std::runtime_error("thrown by on_open");
    if (request.query() == "status") return reject(302, "/login");
    accept(request.query() == "protocol" ? "not offered" : "");
    if (request.query() == "accepted") throw std::runtime_error("thrown after accept()");
  }
  void on_message(sluice::Message message) override {
    if (message.data() == "reject") reject(302, "too late");
    if (message.data() == "next") shared_.next_constructor_throws_ = true;
    if (message.data() == "throw") throw std::runtime_error("thrown by on_message");
    if (message.data() == "throw 42") throw 42;
    if (message.data() == "keep handle") shared_.kept_ = handle();
    send(message.data() == "use handle" ? use(shared_.kept_) : std::string(message.data()));
  }
  void on_drain() override { throw std::runtime_error("thrown by on_drain"); }
  void on_close(const sluice::CloseEvent& event) override {
    if (event.reason == "throw") throw std::runtime_error("thrown by on_close");
  }

 private:
  static std::string use(sluice::Handle kept) {
    const std::vector<std::uint16_t> numbers = {1, 2};
    const bool sent = kept.send(sluice::Binary(numbers));
    if (kept.ready_state() == sluice::ReadyState::closed && !sent) return "closed, not sent";
    return "open, sent, " + std::to_string(kept.buffered_amount()) + " buffered";
  }

  Shared& shared_;
};

SLUICE_PLUGIN(Thrower, Shared)
