// Sends every message back to whoever sent it.
#include <sluice/plugin.hpp>

class Echo : public sluice::Socket {
  void on_message(sluice::Message message) override { send(message); }
};

SLUICE_PLUGIN(Echo)
