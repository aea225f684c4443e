// Says so in the log, and never returns from on_message: its worker does nothing any more.
#include <unistd.h>

#include <sluice/plugin.hpp>

class Stuck : public sluice::Socket {
 public:
  explicit Stuck(sluice::Worker& worker) : worker_(worker) {}

  void on_message(sluice::Message) override {
    worker_.log(sluice::LogLevel::info, "stuck");
    for (;;) ::pause();
  }

 private:
  sluice::Worker& worker_;
};

SLUICE_PLUGIN(Stuck)
