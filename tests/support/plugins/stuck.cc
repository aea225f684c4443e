// Says so in the log, and never returns: from on_message, or if that says "at the end" from the end
// of the plugin, or with `at_once: true` from its worker's first turn. Its worker does nothing any
// more.
#include <unistd.h>
#include <uv.h>

#include <sluice/plugin.hpp>

[[noreturn]] static void stay(const sluice::Worker& worker) {
  worker.log(sluice::LogLevel::info, "stuck");
  for (;;) ::pause();
}

struct Shared {
  explicit Shared(const sluice::Worker& made_for) : worker(made_for) {
    if (worker.config().find("at_once") == std::string_view::npos) return;
    uv_timer_init(static_cast<uv_loop_t*>(worker.uv_loop()), &first_turn);
    first_turn.data = this;
    uv_timer_start(
        &first_turn, [](uv_timer_t* timer) { stay(static_cast<Shared*>(timer->data)->worker); }, 0,
        0);
  }
  ~Shared() {
    if (at_the_end) stay(worker);
  }
  sluice::Worker worker;
  bool at_the_end = false;
  uv_timer_t first_turn;
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
