// Connections on which one message was echoed and which are quiet since. They are pinged, and
// answer, so that they are kept as long as stdin is open.
#include "echoes.h"
#include "modes.h"
#include "report.h"

namespace load {
namespace {

class Idle : public Echoes {
 public:
  explicit Idle(const Options& options) : Echoes(options), meter_(options) {}

  void run() {
    open_all();
    echo_once();
    Line().add("ready", true).print();
    while (true) {
      const std::uint64_t pings_before = crowd_.pings();
      meter_.start();
      if (!crowd_.wait_for_line()) return;
      meter_.stop();
      meter_.figures("pings", crowd_.pings() - pings_before, Histogram()).print();
    }
  }

 private:
  void on_batch(Client&) override {}

  Meter meter_;
};

}  // namespace

void run_idle(const Options& options) {
  Idle(options).run();
}

}  // namespace load
