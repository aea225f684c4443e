// Says so in the log, and never returns: from on_message, or if that says "at the end" from the end
// of the plugin. Its worker does nothing any more.
#include <unistd.h>

#include <sluice/plugin.hpp>

[[noreturn]] static void stay(const sluice::Worker& worker) {
  worker.log(sluice::LogLevel::info, "stuck");
  for (;;) ::pause();
}

struct Shared {
  explicit Shared(const sluice::Worker& made_for) : worker(made_for) {}
  ~Shared() {
    if (at_the_end) stay(worker);
  }
  sluice::Worker worker;
  bool at_the_end = false;
};

class Stuck : public sluice::Socket {
 public:
  explicit Stuck(Shared& shared) : shared_(shared) {}

  void on_message(sluice::Message message) override {
    if (message.data() != "at the end") stay(shared_.worker);
    shared_.at_the_end = true;
    send("so be it");
  }

 private:
  Shared& shared_;
};

SLUICE_PLUGIN(Stuck, Shared)
